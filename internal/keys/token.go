package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
)

// ErrToken is what VerifyStart returns for a token that no listed key signed for this epoch, cluster and launch.
var ErrToken = errors.New("start token refused")

// StartToken is the token that a launch carries: it is good only for asking to start that launch, in that epoch of that
// cluster. It has 43 characters of URL-safe base64 and no expiry of its own: the launch has one.
func (r *Ring) StartToken(epoch uint64, cluster, launch string) string {
	return r.sets[0].token(epoch, cluster, launch)
}

func (d derived) token(epoch uint64, cluster, launch string) string {
	return base64.RawURLEncoding.EncodeToString(d.mac(epoch, cluster, launch))
}

// VerifyStart checks a token against all listed keys. It returns nil or ErrToken.
func (r *Ring) VerifyStart(token string, epoch uint64, cluster, launch string) error {
	if len(token) != base64.RawURLEncoding.EncodedLen(sha256.Size) { // the decoder skips line ends
		return ErrToken
	}
	got, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return ErrToken
	}
	for _, d := range r.sets {
		if hmac.Equal(got, d.mac(epoch, cluster, launch)) {
			return nil
		}
	}
	return ErrToken
}

// mac signs the fields with their lengths, so that no two sets of fields give the same bytes.
func (d derived) mac(epoch uint64, cluster, launch string) []byte {
	h := hmac.New(sha256.New, d.tokens)
	var fields []byte
	fields = binary.BigEndian.AppendUint64(fields, epoch)
	for _, s := range []string{cluster, launch} {
		fields = binary.BigEndian.AppendUint32(fields, uint32(len(s)))
		fields = append(fields, s...)
	}
	h.Write(fields)
	return h.Sum(nil)
}
