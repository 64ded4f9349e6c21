package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"gocloud.dev/blob/s3blob"

	"sega/audit/recording/bucket"
	"sega/broker"
	"sega/cmd/segad/config"
)

const (
	s3Answer = 30 * time.Second // the longest wait for an answer to begin
	s3Look   = 5 * time.Second
)

// recordings is what broker and bastion use of a bucket.
type recordings interface {
	bucket.Store
	broker.Recordings
}

// openRecordings opens where recordings are kept. A storage that does not answer now is no error:
// spools wait for it, and reviewers are told.
func openRecordings(ctx context.Context, path, value, credentials string, log *slog.Logger) (recordings, error) {
	where, err := config.ParseRecordings(path, value)
	if err != nil {
		return nil, err
	}
	if where.S3 == nil {
		return bucket.OpenDir(where.Dir)
	}
	client, err := s3Client(ctx, *where.S3, config.Path(path, credentials))
	if err != nil {
		return nil, fmt.Errorf("recordings: %w", err)
	}
	b, err := s3blob.OpenBucket(ctx, client, where.S3.Bucket, &s3blob.Options{EncryptionType: types.ServerSideEncryption(where.S3.Encryption),
		KMSEncryptionID: where.S3.KMSKey, RequestChecksumCalculation: client.Options().RequestChecksumCalculation})
	if err != nil {
		return nil, fmt.Errorf("recordings: %w", err)
	}
	look, cancel := context.WithTimeout(ctx, s3Look)
	defer cancel()
	if ok, err := b.IsAccessible(look); err != nil || !ok {
		log.Error("the storage of recordings does not answer", "bucket", where.S3.Bucket, "endpoint", where.S3.Endpoint, "error", err)
	}
	return bucket.NewCloud(b, where.S3.Prefix), nil
}

// s3Client takes credentials from a shared credentials file, or where none is named from the SDK's
// default chain.
func s3Client(ctx context.Context, where config.S3, credentials string) (*s3.Client, error) {
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = s3Answer }))}
	if where.Region != "" {
		options = append(options, awsconfig.WithRegion(where.Region))
	}
	if credentials != "" {
		provider, err := sharedCredentials(ctx, credentials)
		if err != nil {
			return nil, err
		}
		options = append(options, awsconfig.WithCredentialsProvider(provider))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		if where.Endpoint == "" {
			return
		}
		// Other makers' storages know buckets by path and not every checksum of AWS.
		o.BaseEndpoint, o.UsePathStyle = &where.Endpoint, true
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	}), nil
}
