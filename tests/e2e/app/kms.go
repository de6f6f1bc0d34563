package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// client is as an application makes it: address, region, credentials and CA are in the environment.
func client(ctx context.Context, options ...func(*config.LoadOptions) error) (*kms.Client, error) {
	configuration, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("the SDK's configuration: %w", err)
	}
	return kms.NewFromConfig(configuration), nil
}

func encrypt(ctx context.Context) error {
	client, err := client(ctx)
	if err != nil {
		return err
	}
	encrypted, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte(*text)})
	if err != nil {
		return err
	}
	fmt.Println(base64.StdEncoding.EncodeToString(encrypted.CiphertextBlob))
	return nil
}

func decrypt(ctx context.Context) error {
	client, err := client(ctx)
	if err != nil {
		return err
	}
	blob, err := base64.StdEncoding.DecodeString(*ciphertext)
	if err != nil {
		return fmt.Errorf("-ciphertext: %w", err)
	}
	decrypted, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob})
	if err != nil {
		return err
	}
	fmt.Println(string(decrypted.Plaintext))
	return nil
}

// roundTrip does all that an application does with a key: encrypts and decrypts, with and without a context, and generates
// a data key that it can use and get back.
func roundTrip(ctx context.Context) error {
	client, err := client(ctx)
	if err != nil {
		return err
	}
	for _, purpose := range []map[string]string{nil, {"app": "shop"}} {
		if err := thereAndBack(ctx, client, purpose); err != nil {
			return err
		}
	}
	generated, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes256})
	if err != nil {
		return err
	}
	if _, err := aes.NewCipher(generated.Plaintext); err != nil || len(generated.Plaintext) != 32 {
		return fmt.Errorf("the generated data key has %d bytes", len(generated.Plaintext))
	}
	decrypted, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: generated.CiphertextBlob})
	if err != nil {
		return err
	}
	if !bytes.Equal(decrypted.Plaintext, generated.Plaintext) {
		return errors.New("the generated data key decrypts to something else")
	}
	fmt.Printf("encrypted and decrypted with %s, and generated a data key\n", aws.ToString(decrypted.KeyId))
	return nil
}

func thereAndBack(ctx context.Context, client *kms.Client, purpose map[string]string) error {
	encrypted, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte(*text), EncryptionContext: purpose})
	if err != nil {
		return err
	}
	if bytes.Contains(encrypted.CiphertextBlob, []byte(*text)) {
		return errors.New("the ciphertext contains the plaintext")
	}
	decrypted, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypted.CiphertextBlob, EncryptionContext: purpose})
	if err != nil {
		return err
	}
	if string(decrypted.Plaintext) != *text {
		return errors.New("what was encrypted decrypts to something else")
	}
	wrong := map[string]string{"app": "another"}
	_, err = client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypted.CiphertextBlob, EncryptionContext: wrong})
	if invalid := new(types.InvalidCiphertextException); !errors.As(err, &invalid) {
		return fmt.Errorf("with another context the answer is not InvalidCiphertextException: %w", err)
	}
	return nil
}

// deliveredDataKey asks the endpoint what the ciphertext in the Secret of a DataKey decrypts to.
func deliveredDataKey(ctx context.Context) error {
	client, err := client(ctx)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, name := range []string{"plaintext", "ciphertextBlob", "encryptionContext"} {
		if files[name], err = os.ReadFile(filepath.Join(*directory, name)); err != nil {
			return err
		}
	}
	blob, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(files["ciphertextBlob"])))
	if err != nil {
		return fmt.Errorf("ciphertextBlob: %w", err)
	}
	var purpose map[string]string
	if err := json.Unmarshal(files["encryptionContext"], &purpose); err != nil {
		return fmt.Errorf("encryptionContext: %w", err)
	}
	decrypted, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: purpose})
	if err != nil {
		return err
	}
	if !bytes.Equal(decrypted.Plaintext, files["plaintext"]) {
		return errors.New("the ciphertext decrypts to something else than what was delivered")
	}
	fmt.Printf("%d bytes, which are what the ciphertext decrypts to\n", len(files["plaintext"]))
	return nil
}
