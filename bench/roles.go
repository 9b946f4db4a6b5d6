package main

// This program is also some of the processes that it starts.
const (
	roleKeep  = "act-as-keeper"
	roleEtcd  = "act-as-etcd"
	rolePlain = "act-as-plain-relukko"
	roleEcho  = "act-as-echo"
	roleRival = "act-as-rival"
)

// actAs runs the process as one of the roles, if the arguments name one, and
// reports whether they do.
func actAs(args []string) (asked bool, err error) {
	if len(args) == 0 {
		return false, nil
	}
	role, args := args[0], args[1:]
	switch role {
	case roleKeep:
		err = keep(args)
	case roleEtcd:
		err = serveEtcd(args)
	case rolePlain:
		err = servePlain()
	case roleEcho:
		err = serveEcho()
	case roleRival:
		err = beRival(args)
	default:
		return false, nil
	}
	return true, err
}
