//go:build linux

package host

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// metadata is where EC2's instances ask about themselves.
const metadata = "http://169.254.169.254"

// maxMetadata bounds an answer of the metadata service.
const maxMetadata = 64 << 10

// InstanceDocument asks the metadata service (IMDSv2) for the identity document that AWS has signed with an RSA key of
// 2048 bits: PKCS#7, in base64 of several lines.
func InstanceDocument(ctx context.Context, endpoint string) ([]byte, error) {
	if endpoint == "" {
		endpoint = metadata
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{}} // no proxy
	defer client.CloseIdleConnections()
	token, err := metadataCall(ctx, client, http.MethodPut, endpoint+"/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	if err != nil {
		return nil, err
	}
	text, err := metadataCall(ctx, client, http.MethodGet, endpoint+"/latest/dynamic/instance-identity/rsa2048", "X-aws-ec2-metadata-token", token)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
}

func metadataCall(ctx context.Context, client *http.Client, method, address, header, value string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return "", err
	}
	r.Header.Set(header, value)
	resp, err := client.Do(r)
	if err != nil {
		return "", fmt.Errorf("ask EC2's metadata service: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("EC2's metadata service answers %s: %s", address, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxMetadata))
	return string(text), err
}
