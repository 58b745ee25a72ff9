package wire

import "encoding/binary"

// transcriptLabel begins every transcript, so that a signature over one is never a signature over anything else that the
// same key signs.
const transcriptLabel = "saltpeter wrapper hello v1"

// ExporterLabel is the label of the TLS exporter (RFC 5705) that binds a proof to its connection; 32 bytes are taken.
const ExporterLabel = "EXPORTER-saltpeter-wrapper-v1"

// Transcript is what a machine signs to prove its identity: label, cluster, launch, machine, nonce, challenge and TLS
// exporter, each with its length in front, so that no two different tuples give the same bytes.
func Transcript(cluster, launch, machine string, nonce, challenge, exporter []byte) []byte {
	var out []byte
	for _, part := range [][]byte{[]byte(transcriptLabel), []byte(cluster), []byte(launch), []byte(machine), nonce, challenge, exporter} {
		out = binary.AppendUvarint(out, uint64(len(part)))
		out = append(out, part...)
	}
	return out
}
