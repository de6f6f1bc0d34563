// An application of the tests: what a user's program does with data keys in its pod, and with the KMS endpoint through the
// AWS SDK for Go. Its answer is its standard output and its exit status.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// What the command line says. Each mode reads the flags that it needs.
var (
	key        = flag.String("key", "alias/customers", "the key to use at the KMS endpoint: an id, an ARN or an alias")
	text       = flag.String("text", "hello", "what is encrypted or sealed")
	ciphertext = flag.String("ciphertext", "", "what is decrypted or opened, in base64")
	directory  = flag.String("directory", "/keys", "where the Secret of a DataKey is mounted")
	variable   = flag.String("variable", "", "the environment variable with a data key in base64, instead of -directory")
	url        = flag.String("url", "", "what to get")
	workers    = flag.Int("workers", 4, "how many requests are made at a time; every fourth on a new connection each time")
	pause      = flag.Duration("pause", 100*time.Millisecond, "between two requests of a worker")
	attempts   = flag.Int("attempts", 2, "how often the SDK tries a request: 2 is one retry")
)

var modes = map[string]func(context.Context) error{
	"encrypt":    encrypt,
	"decrypt":    decrypt,
	"round-trip": roundTrip,
	"data-key":   deliveredDataKey,
	"seal":       seal,
	"open":       open,
	"get":        get,
	"steady":     steady,
	"wait":       wait,
}

// wait keeps a pod up, for `kubectl exec`.
func wait(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func main() {
	if len(os.Args) < 2 || modes[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: app MODE [flags]; see main.go for the modes")
		os.Exit(2)
	}
	if err := flag.CommandLine.Parse(os.Args[2:]); err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := modes[os.Args[1]](ctx); err != nil {
		fmt.Println(err)
		stop()
		os.Exit(1)
	}
}
