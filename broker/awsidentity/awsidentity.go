// Package awsidentity verifies the identity documents of AWS's instances: what an instance shows that it is itself, signed
// by AWS (docs.aws.amazon.com, EC2 user guide, "Instance identity documents", RSA-2048 signature). It decides nothing
// about who may come in by one, and serves the flow "A host enrols" of docs/architecture.md.
package awsidentity

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"github.com/smallstep/pkcs7"
)

// maxDocument bounds what is parsed; AWS's are of 2 KB.
const maxDocument = 16 << 10

// ErrForged is for a document that AWS has not signed, or not whole.
var ErrForged = errors.New("the instance identity document is not signed by a configured certificate of AWS")

// Document is what an instance is, by AWS's word.
type Document struct {
	Account  string     // twelve digits
	Region   string     // like eu-central-1
	Instance string     // i-…
	Address  netip.Addr // private
	Pending  time.Time  // when it was launched, or started again
}

// ParseCertificates reads PEM certificates of RSA keys of 2048 bits and more.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		key, ok := cert.PublicKey.(*rsa.PublicKey)
		if !ok || key.N.BitLen() < 2048 {
			return nil, fmt.Errorf("the certificate of %q has no RSA key of 2048 bits: take AWS's RSA-2048 certificate of the region", cert.Subject)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no PEM certificate")
	}
	return out, nil
}

var (
	sha256ID  = "2.16.840.1.101.3.4.2.1"
	accountID = regexp.MustCompile(`^[0-9]{12}$`)
	regionID  = regexp.MustCompile(`^[a-z]{2}(-[a-z]{2,12}){1,3}-[0-9]{1,2}$`)
	instance  = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)
)

// Verify opens a PKCS#7 message (DER or BER) whose one signer is one of certs, by SHA-256. Certificates in the message
// are not looked at.
func Verify(message []byte, certs []*x509.Certificate) (d Document, err error) {
	if len(message) == 0 || len(message) > maxDocument || len(certs) == 0 {
		return d, ErrForged
	}
	p, err := parse(message)
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrForged, err)
	}
	if len(p.Signers) != 1 || p.Signers[0].DigestAlgorithm.Algorithm.String() != sha256ID {
		return d, fmt.Errorf("%w: it has not one signer by SHA-256", ErrForged)
	}
	p.Certificates = certs
	if err := p.Verify(); err != nil {
		return d, fmt.Errorf("%w: %w", ErrForged, err)
	}
	return read(p.Content)
}

// parse is pkcs7.Parse of what strangers send.
func parse(message []byte) (p *pkcs7.PKCS7, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("the message is broken: %v", r)
		}
	}()
	return pkcs7.Parse(message)
}

func read(content []byte) (d Document, err error) {
	var v struct {
		AccountID   string    `json:"accountId"`
		Region      string    `json:"region"`
		InstanceID  string    `json:"instanceId"`
		PrivateIP   string    `json:"privateIp"`
		PendingTime time.Time `json:"pendingTime"`
	}
	if err := json.Unmarshal(content, &v); err != nil {
		return d, fmt.Errorf("the instance identity document: %w", err)
	}
	addr, err := netip.ParseAddr(v.PrivateIP)
	if err != nil || !accountID.MatchString(v.AccountID) || !regionID.MatchString(v.Region) || !instance.MatchString(v.InstanceID) || v.PendingTime.IsZero() {
		return d, errors.New("the instance identity document lacks account, region, instance, address or time")
	}
	return Document{Account: v.AccountID, Region: v.Region, Instance: v.InstanceID, Address: addr, Pending: v.PendingTime}, nil
}
