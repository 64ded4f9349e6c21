package agent

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"sega/broker/api"
	"sega/keychain/secret"
)

// maxMessage bounds a line, in bytes: a request carries a session policy at most.
const maxMessage = 1 << 20

var errLong = fmt.Errorf("that is too long for the agent: more than %d bytes", maxMessage)

var errMessage = errors.New("the other end of the agent's socket speaks something else")

// send writes one message with its secrets: only the socket gets it.
func send(w io.Writer, v api.Revealer) error {
	line, err := json.Marshal(v.Wire())
	if err != nil {
		return err
	}
	if len(line) >= maxMessage {
		return errLong
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// receive reads the line of one message.
func receive(r io.Reader) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxMessage)).ReadBytes('\n')
	if errors.Is(err, io.EOF) && len(line) > 0 { // half an answer is none
		return nil, io.ErrUnexpectedEOF
	}
	return line, err
}

func decode(line []byte, v any) error {
	if json.Unmarshal(line, v) != nil { // its error quotes what it has read
		return errMessage
	}
	return nil
}

// processBegin is how the form of credential_process begins, and no Reply does.
const processBegin = `{"Version":1,`

// Wire implements api.Revealer.
func (r Request) Wire() any {
	type plain Request
	return struct {
		plain
		Key string `json:"key,omitempty"`
	}{plain(r), base64.StdEncoding.EncodeToString(r.Key.Reveal())} // a key is bytes, of which JSON would make others
}

// keyOfWire reads a key as a Request carries it.
func keyOfWire(key secret.Secret) (secret.Secret, error) {
	raw, err := base64.StdEncoding.DecodeString(string(key.Reveal()))
	if err != nil { // it quotes what it has read
		return secret.Secret{}, api.Errorf(api.KindInvalid, "the key is not base64")
	}
	return secret.New(raw), nil
}

// Wire implements api.Revealer.
func (r Reply) Wire() any {
	type plain Reply
	out := struct {
		plain
		Granted  any `json:"granted,omitempty"`
		Endpoint any `json:"endpoint,omitempty"`
	}{plain: plain(r)}
	if g := r.Granted; g != nil {
		type more Granted
		out.Granted = struct {
			more
			SecretAccessKey string `json:"secret_access_key"`
			SessionToken    string `json:"session_token"`
		}{more(*g), string(g.SecretAccessKey.Reveal()), string(g.SessionToken.Reveal())}
	}
	if e := r.Endpoint; e != nil {
		out.Endpoint = map[string]string{"url": e.URL, "token": string(e.Token.Reveal())}
	}
	return out
}
