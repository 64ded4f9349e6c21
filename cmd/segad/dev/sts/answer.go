package sts

import (
	"encoding/xml"
	"net/http"
)

const namespace = "https://sts.amazonaws.com/doc/2011-06-15/"

// fault is an error answer of STS.
type fault struct {
	code    string
	status  int
	message string
}

func incomplete(msg string) *fault { return &fault{"IncompleteSignature", http.StatusBadRequest, msg} }
func mismatch(msg string) *fault   { return &fault{"SignatureDoesNotMatch", http.StatusForbidden, msg} }
func denied(msg string) *fault     { return &fault{"AccessDenied", http.StatusForbidden, msg} }
func validation(msg string) *fault { return &fault{"ValidationError", http.StatusBadRequest, msg} }

// constraint is the message that AWS gives where a parameter breaks its grammar.
func constraint(param, must string) *fault {
	return validation("1 validation error detected: Value at '" + param + "' failed to satisfy constraint: " + must)
}

type errorResponse struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
	Error   struct {
		Type, Code, Message string
	}
	RequestID string `xml:"RequestId"`
}

type metadata struct {
	RequestID string `xml:"RequestId"`
}

type identityResponse struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	Result  struct {
		Arn     string
		UserID  string `xml:"UserId"`
		Account string
	} `xml:"GetCallerIdentityResult"`
	Metadata metadata `xml:"ResponseMetadata"`
}

type assumeResult struct {
	SourceIdentity  string `xml:",omitempty"`
	AssumedRoleUser struct {
		AssumedRoleID string `xml:"AssumedRoleId"`
		Arn           string
	}
	Credentials struct {
		AccessKeyID     string `xml:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string // RFC 3339, whole seconds
	}
}

type assumeResponse struct {
	XMLName  xml.Name     `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleResponse"`
	Result   assumeResult `xml:"AssumeRoleResult"`
	Metadata metadata     `xml:"ResponseMetadata"`
}

// write sends v as XML. An error of the connection is the client's to notice.
func write(w http.ResponseWriter, status int, requestID string, v any) {
	body, err := xml.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("X-Amzn-Requestid", requestID)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (f *fault) write(w http.ResponseWriter, requestID string) {
	v := errorResponse{RequestID: requestID}
	v.Error.Type, v.Error.Code, v.Error.Message = "Sender", f.code, f.message
	if f.status >= 500 {
		v.Error.Type = "Receiver"
	}
	write(w, f.status, requestID, v)
}
