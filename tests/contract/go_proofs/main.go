// Judges proofs and signed notes from standard input by the libraries of the transparency community.
// Each case is JSON on a line; each answer is `ok` or the library's error, on a line.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

type question struct {
	Kind    string
	Note    string
	VKey    string
	Old     uint64
	Index   uint64
	Size    uint64
	Leaf    []byte
	OldRoot []byte
	Root    []byte
	Proof   [][]byte
}

func judge(q question) error {
	switch q.Kind {
	case "note":
		verifier, err := note.NewVerifier(q.VKey)
		if err != nil {
			return err
		}
		_, err = note.Open([]byte(q.Note), note.VerifierList(verifier))
		return err
	case "inclusion":
		leaf := rfc6962.DefaultHasher.HashLeaf(q.Leaf)
		return proof.VerifyInclusion(rfc6962.DefaultHasher, q.Index, q.Size, leaf, q.Proof, q.Root)
	case "consistency":
		return proof.VerifyConsistency(rfc6962.DefaultHasher, q.Old, q.Size, q.Proof, q.OldRoot, q.Root)
	}
	return fmt.Errorf("unknown kind %q", q.Kind)
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := judge(q); err != nil {
			fmt.Printf("refused: %q\n", err.Error())
		} else {
			fmt.Println("ok")
		}
	}
}
