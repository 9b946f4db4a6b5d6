package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

const locksPath = "/v1/locks/"

// bareClient uses a Relukko server with nothing but net/http: the minimum that a
// round costs.
type bareClient struct {
	client *http.Client
	url    string
	key    string
	prefer string // of creates; empty: none
	body   []byte
}

func (s *relukkoService) bare(name string) *bareClient {
	body, err := json.Marshal(map[string]string{"lock_name": name, "creator": "bare"})
	if err != nil {
		panic(err) // cannot happen with two strings
	}
	return &bareClient{
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: herdSize}},
		url:    s.url + locksPath,
		key:    s.key,
		body:   body,
	}
}

// round creates a lock and deletes it.
func (b *bareClient) round(ctx context.Context) error {
	id, err := b.create(ctx)
	if err != nil {
		return err
	}
	return b.remove(ctx, id)
}

// create creates a lock and returns its id.
func (b *bareClient) create(ctx context.Context) (string, error) {
	answer, err := b.ask(ctx, http.MethodPost, b.url, bytes.NewReader(b.body))
	if err != nil {
		return "", err
	}
	var lock struct {
		ID string `json:"id"`
	}
	err = json.Unmarshal(answer, &lock)
	return lock.ID, err
}

func (b *bareClient) remove(ctx context.Context, id string) error {
	_, err := b.ask(ctx, http.MethodDelete, b.url+id, http.NoBody)
	return err
}

func (b *bareClient) ask(ctx context.Context, method, url string, body io.Reader) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-API-KEY", b.key)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
		if b.prefer != "" {
			r.Header.Set("Prefer", b.prefer)
		}
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, url, answer.Status, text)
	}
	return text, err
}

func (b *bareClient) close() { b.client.CloseIdleConnections() }
