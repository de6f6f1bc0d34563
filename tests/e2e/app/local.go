package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// dataKey is the application's data key, as its pod has it: a file with the bytes, or a variable with base64 text.
func dataKey() ([]byte, error) {
	if *variable == "" {
		return os.ReadFile(filepath.Join(*directory, "plaintext"))
	}
	return base64.StdEncoding.DecodeString(os.Getenv(*variable))
}

// underDataKey is AES-256-GCM, with a nonce of its own choice, under the data key: nothing but exactly 32 bytes will do.
func underDataKey() (cipher.AEAD, error) {
	bytes, err := dataKey()
	if err != nil {
		return nil, fmt.Errorf("the data key: %w", err)
	}
	if len(bytes) != 32 {
		return nil, fmt.Errorf("the data key has %d bytes", len(bytes))
	}
	block, err := aes.NewCipher(bytes)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func seal(context.Context) error {
	sealer, err := underDataKey()
	if err != nil {
		return err
	}
	fmt.Println(base64.StdEncoding.EncodeToString(sealer.Seal(nil, nil, []byte(*text), nil)))
	return nil
}

func open(context.Context) error {
	opener, err := underDataKey()
	if err != nil {
		return err
	}
	sealed, err := base64.StdEncoding.DecodeString(*ciphertext)
	if err != nil {
		return fmt.Errorf("-ciphertext: %w", err)
	}
	opened, err := opener.Open(nil, nil, sealed, nil)
	if err != nil {
		return err
	}
	fmt.Println(string(opened))
	return nil
}

// get prints what an address answers, as a scraper would see it.
func get(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, *url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	fmt.Printf("%s %s\n%s", response.Status, response.Header.Get("Content-Type"), body)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	return nil
}
