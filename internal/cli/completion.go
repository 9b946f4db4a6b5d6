package cli

import (
	"bytes"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func newCompletion(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a completion script for a shell",
		Long: `Print a script that has a shell complete commands, flags and names of locks. The
names come from the backend that commands in that shell use. Names that a shell
would not take literally, for example with a quote or a $ in them, are not
offered.`,
		Example: examples(
			"source <(relukko completion bash)                             # this shell only",
			"relukko completion bash > /etc/bash_completion.d/relukko      # all shells",
			"relukko completion zsh > \"${fpath[1]}/_relukko\"",
			"relukko completion fish > ~/.config/fish/completions/relukko.fish",
		),
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []cobra.Completion{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			switch out := p.Stdout; args[0] {
			case "bash":
				err = bashCompletion(cmd.Root(), out)
			case "zsh":
				err = cmd.Root().GenZshCompletion(out)
			case "fish":
				err = cmd.Root().GenFishCompletion(out, true)
			}
			return printed(0, err)
		},
	}
}

// words is how cobra's script gets the words of the line: from the package
// bash-completion.
const words = `    _get_comp_words_by_ref "$@" cur prev words cword
`

// ownWords does the same where that package is not installed. Bash splits words
// at = and :, so words without a blank between them are joined again.
const ownWords = `    if declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local i word line=${COMP_LINE}
    words=()
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        word=${COMP_WORDS[i]}
        if ((i > 0)) && [[ ${line} != [[:blank:]]* ]] &&
            [[ ${word} == [=:]* || ${COMP_WORDS[i-1]} == *[=:] ]]; then
            words[${#words[@]}-1]+=${word}
        else
            words+=("${word}")
        fi
        line=${line#"${line%%[![:blank:]]*}"}
        line=${line#"${word}"}
        if ((i == COMP_CWORD)); then
            cword=$((${#words[@]} - 1))
        fi
    done
    cur=${words[cword]}
    prev=${words[cword-1]}
`

func bashCompletion(root *cobra.Command, out io.Writer) error {
	var script bytes.Buffer
	if err := root.GenBashCompletionV2(&script, true); err != nil {
		return err
	}
	_, err := io.WriteString(out, strings.Replace(script.String(), words, ownWords, 1))
	return err
}
