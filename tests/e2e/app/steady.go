package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"
)

// reasonsKept is how many of the first failures, and of the first retries, are told in full.
const reasonsKept = 5

// summary is what was seen since the start. A line of it is printed every second.
type summary struct {
	sync.Mutex `json:"-"`
	// Requests that were answered, or given up.
	Requests int `json:"requests"`
	// Requests that needed more than one attempt.
	Retried int `json:"retried"`
	// Requests that failed in the last attempt, or were answered wrongly.
	Failed int `json:"failed"`
	// The longest time that a request took, with its retries.
	LongestMS int64    `json:"longestMs"`
	Errors    []string `json:"errors"`
	// Why there were retries.
	Reasons []string `json:"reasons"`
}

// count takes in a request that ended: with its metadata, if it was answered, or with an error.
func (s *summary) count(metadata middleware.Metadata, took time.Duration, err error) {
	s.Lock()
	defer s.Unlock()
	s.Requests++
	s.LongestMS = max(s.LongestMS, took.Milliseconds())
	when := time.Now().UTC().Format(time.RFC3339Nano)
	results, _ := retry.GetAttemptResults(metadata)
	if len(results.Results) > 1 {
		s.Retried++
		s.Reasons = keep(s.Reasons, fmt.Sprintf("%s: %s", when, results.Results[0].Err))
	}
	if err != nil {
		s.Failed++
		s.Errors = keep(s.Errors, fmt.Sprintf("%s after %s: %s", when, took, err))
	}
}

func keep(reasons []string, reason string) []string {
	if len(reasons) == reasonsKept {
		return reasons
	}
	return append(reasons, reason)
}

func (s *summary) print() error {
	s.Lock()
	defer s.Unlock()
	return json.NewEncoder(os.Stdout).Encode(s)
}

// steady encrypts and decrypts until it is told to stop, and counts.
func steady(ctx context.Context) error {
	seen := summary{Errors: []string{}, Reasons: []string{}}
	var working sync.WaitGroup
	for number := range *workers {
		client, err := steadyClient(ctx, number%4 == 3)
		if err != nil {
			return err
		}
		working.Go(func() {
			for ctx.Err() == nil {
				work(ctx, client, &seen)
			}
		})
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		if err := seen.print(); err != nil {
			return err
		}
	}
	working.Wait()
	return seen.print()
}

// steadyClient keeps its connection, as applications do, or makes one for each request, as new processes do.
func steadyClient(ctx context.Context, newConnections bool) (*kms.Client, error) {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(transport *http.Transport) {
		transport.DisableKeepAlives = newConnections
	})
	return client(ctx, config.WithHTTPClient(transport), config.WithRetryMaxAttempts(*attempts))
}

// work makes two requests. Not with a context that ends: what is under way when we are told to stop is to be answered.
func work(ctx context.Context, client *kms.Client, seen *summary) {
	plaintext := []byte(*text)
	started := time.Now()
	encrypted, err := client.Encrypt(context.Background(), &kms.EncryptInput{KeyId: key, Plaintext: plaintext})
	if err != nil {
		seen.count(middleware.Metadata{}, time.Since(started), err)
		rest(ctx)
		return
	}
	seen.count(encrypted.ResultMetadata, time.Since(started), nil)
	rest(ctx)

	started = time.Now()
	decrypted, err := client.Decrypt(context.Background(), &kms.DecryptInput{CiphertextBlob: encrypted.CiphertextBlob})
	if err != nil {
		seen.count(middleware.Metadata{}, time.Since(started), err)
	} else if !bytes.Equal(decrypted.Plaintext, plaintext) {
		seen.count(decrypted.ResultMetadata, time.Since(started), errors.New("what was encrypted decrypts to something else"))
	} else {
		seen.count(decrypted.ResultMetadata, time.Since(started), nil)
	}
	rest(ctx)
}

func rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(*pause):
	}
}
