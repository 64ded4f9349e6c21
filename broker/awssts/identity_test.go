package awssts

import (
	"errors"
	"strings"
	"testing"
)

func TestSourceIdentity(t *testing.T) {
	long := strings.Repeat("a", 52) + "@corp.sample" // 64
	tests := []struct {
		name, email, subject, want string
	}{
		{"e-mail fits", "ada@corp.example", "00u1", "ada@corp.example"},
		{"every character of the grammar", "A_z0+=,.@-", "00u1", "A_z0+=,.@-"},
		{"case is kept", "Ada@Corp.Example", "00u1", "Ada@Corp.Example"},
		{"64 characters", long, "00u1", long},
		{"65 characters fall back to the subject", "b" + long, "00u1", "00u1"},
		{"two characters", "ab", "00u1", "ab"},
		{"one character", "a", "00u1", "00u1"},
		{"no e-mail", "", "00u1", "00u1"},
		{"a blank is not cut away", "ada @corp.example", "00u1", "00u1"},
		{"a final newline is not overlooked", "ada@corp.example\n", "00u1", "00u1"},
		{"apostrophe", "o'hara@corp.example", "00u1", "00u1"},
		{"accent", "ádá@corp.example", "00u1", "00u1"},
		{"a letter that folds to ASCII", "ſam@corp.example", "00u1", "00u1"},
		{"full-width digits", "ada\uff11@corp.example", "00u1", "00u1"},
		{"colon and slash are of tags, not of names", "aws:ada", "a/b", ""},
		{"neither fits", "ada lovelace@corp.example", "auth0|5f7c", ""},
		{"nothing at all", "", "", ""},
		{"subject too long", "", strings.Repeat("s", 65), ""},
		{"NUL", "ada\x00@corp.example", "\x00\x00", ""},
		{"broken UTF-8", "ada\xff@corp.example", "\xff\xff", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := Identity{Email: tt.email, Subject: tt.subject}
			got, err := SourceIdentity(id)
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("SourceIdentity = %q, %v; want %q", got, err, tt.want)
			}
			var e *Error
			if err != nil && (!errors.As(err, &e) || e.Kind != KindInvalid || e.Ambiguous || e.Retryable) {
				t.Errorf("error %#v is not a plain refusal", err)
			}
			name, _ := SessionName(id)
			if name != got {
				t.Errorf("SessionName = %q, SourceIdentity = %q", name, got)
			}
		})
	}
}

func FuzzSourceIdentity(f *testing.F) {
	f.Add("ada@corp.example", "00u1")
	f.Add("ada@corp.example\n", "")
	f.Add("\xff", "é")
	f.Fuzz(func(t *testing.T, email, subject string) {
		got, err := SourceIdentity(Identity{Email: email, Subject: subject})
		if err != nil {
			return
		}
		if got != email && got != subject {
			t.Fatalf("%q is neither %q nor %q", got, email, subject)
		}
		if len(got) < 2 || len(got) > 64 {
			t.Fatalf("%q has %d bytes", got, len(got))
		}
		for _, b := range []byte(got) {
			if !strings.ContainsRune("_+=,.@-", rune(b)) && (b < '0' || b > '9') && (b|0x20 < 'a' || b|0x20 > 'z') {
				t.Fatalf("%q holds byte %#x", got, b)
			}
		}
	})
}
