package build

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// signatureMark ends a module that carries a signature.
const signatureMark = "~Module signature appended~\n"

// stripModule takes out of a kernel module what it runs without: the type
// information for BPF programs that hook into this very module (the kernel's
// own stays), and the signature, which no longer fits then. Offsets stay what
// they are; the bytes become zeros that compress to nothing.
//
// Source: System V ABI, ELF-64 section headers; scripts/sign-file.c of Linux.
func stripModule(module []byte) ([]byte, error) {
	out := bytes.Clone(module)
	if body, ok := bytes.CutSuffix(out, []byte(signatureMark)); ok && len(body) >= 12 {
		// The last 12 bytes say in four of them how long the signature is.
		size := int(binary.BigEndian.Uint32(body[len(body)-4:]))
		if size < 0 || size > len(body)-12 {
			return nil, errors.New("damaged module signature")
		}
		out = body[:len(body)-12-size]
	}
	const fileHeader, header = 64, 64
	if len(out) < fileHeader || string(out[:5]) != "\x7fELF\x02" {
		return nil, errors.New("not a 64-bit ELF file")
	}
	little := binary.LittleEndian
	table, count, names := little.Uint64(out[40:]), int(little.Uint16(out[60:])), int(little.Uint16(out[62:]))
	if table > uint64(len(out)) || uint64(count)*header > uint64(len(out))-table || names >= count {
		return nil, errors.New("damaged section table")
	}
	section := func(i int) []byte { return out[int(table)+i*header:][:header] }
	content := func(s []byte) []byte {
		offset, size := little.Uint64(s[24:]), little.Uint64(s[32:])
		if offset > uint64(len(out)) || size > uint64(len(out))-offset {
			return nil
		}
		return out[offset : offset+size]
	}
	text := content(section(names))
	for i := range count {
		s := section(i)
		if name := int(little.Uint32(s)); name < len(text) && bytes.HasPrefix(text[name:], []byte(".BTF\x00")) {
			clear(content(s))
			little.PutUint64(s[32:], 0)
		}
	}
	return out, nil
}
