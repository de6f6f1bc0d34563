// Reads metrics from standard input with Prometheus' own OpenMetrics parser, and prints what it found: one line a
// family ("family NAME TYPE") and one a series ("series NAME{LABELS} VALUE"). What can't be parsed, and a series that
// is there twice, is an error.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

func main() {
	if err := read(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "openmetrics:", err)
		os.Exit(1)
	}
}

func read(in io.Reader, out io.Writer) error {
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	parser := textparse.NewOpenMetricsParser(text, labels.NewSymbolTable())
	seen := map[string]bool{}
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch entry {
		case textparse.EntryType:
			name, kind := parser.Type()
			fmt.Fprintf(out, "family %s %s\n", name, kind)
		case textparse.EntrySeries:
			var found labels.Labels
			parser.Labels(&found)
			_, _, value := parser.Series()
			if series := found.String(); seen[series] {
				return fmt.Errorf("the series %s is there twice", series)
			} else {
				seen[series] = true
				fmt.Fprintf(out, "series %s %v\n", series, value)
			}
		}
	}
}
