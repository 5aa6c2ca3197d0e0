// SPDX-License-Identifier: Apache-2.0

// Records what crypto/tls.X509KeyPair says of certificates and keys, for
// tests/unit/apiserver/test_pair.c. One line a pair: certificate, key and what is wrong with them
// ("" for nothing), separated by tabs, as JSON.
// Usage: go run . >../pair_vectors.txt
package main

import (
	"bufio"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"
)

var out = bufio.NewWriter(os.Stdout)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func certificate(key crypto.Signer) string {
	t := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "x"},
		NotBefore: time.Unix(1767268800, 0), NotAfter: time.Unix(1767272400, 0)}
	return block("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)))
}

func show(cert, key string) {
	_, err := tls.X509KeyPair([]byte(cert), []byte(key))
	text := ""
	if err != nil {
		text = err.Error()
	}
	fmt.Fprintf(out, "%s\t%s\t%s\n", must(json.Marshal(cert)), must(json.Marshal(key)), must(json.Marshal(text)))
}

func main() {
	defer out.Flush()
	r := must(rsa.GenerateKey(rand.Reader, 1024)) //nolint
	e := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	e2 := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	e3 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	_, d, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	x := must(ecdh.X25519().GenerateKey(rand.Reader))
	pkcs8 := func(k any) string { return block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(k))) }
	ec := func(k *ecdsa.PrivateKey) string { return block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(k))) }
	rc, cert, dc := certificate(r), certificate(e), certificate(d)

	show(rc, block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r)))
	show(rc, pkcs8(r))
	show(cert, ec(e))
	show(cert, pkcs8(e))
	show(dc, pkcs8(d))
	show(cert, ec(e2))
	show(cert, ec(e3))
	show(cert, pkcs8(r))
	show(rc, ec(e))
	show(dc, ec(e))
	show(cert, pkcs8(d))
	show(cert, pkcs8(x))
	show(cert, block("PRIVATE KEY", []byte("nothing")))
	show(cert, block("PRIVATE KEY", nil))
	show(block("CERTIFICATE", []byte("nothing")), ec(e))
	show(block("CERTIFICATE", nil), ec(e))
	show(cert+rc, ec(e))
	show(rc+cert, ec(e))
	show("", "")
	show(cert, "")
	show("", ec(e))
	show("words", "words")
	show(ec(e), cert)
	show(ec(e)+pkcs8(r), ec(e))
	show(block("CERTIFICATE REQUEST", []byte("x")), ec(e))
	show(block("A", []byte("x"))+block("B C", []byte("x")), ec(e))
	show(cert, cert)
	show(cert, cert+rc)
	show(cert, block("PUBLIC KEY", []byte("x"))+block("A", nil))
	show(cert, block("PUBLIC KEY", []byte("x"))+ec(e))
	show(block("A", []byte("x"))+cert, block("EC PARAMETERS", []byte("x"))+ec(e))
	show(cert, block("MYPRIVATE KEY", []byte("x")))

	// How PEM is read.
	show("text before\n"+cert+"after", "\n\n"+ec(e))
	show(strings.ReplaceAll(cert, "\n", "\r\n"), strings.ReplaceAll(ec(e), "\n", " \t\n"))
	show(strings.TrimSuffix(cert, "\n"), strings.TrimSuffix(ec(e), "\n"))
	show("x"+cert, ec(e))
	show("-----BEGIN CERTIFICATE-----\n"+cert, ec(e))
	show(strings.Replace(cert, "END CERT", "END CORT", 1), ec(e))
	show(strings.Replace(cert, "END CERT", "END CORT", 1)+cert, ec(e))
	show(strings.Replace(cert, "-----\n", "----\n", 1), ec(e))
	show(strings.Replace(cert, "-----\n", "-----\nA: b\nC : d\n\n", 1), ec(e))
	show(strings.Replace(cert, "-----\n", "-----\nA: b\n", 1), ec(e))
	show(strings.Replace(cert, "-----\n", "-----\n!", 1), ec(e))
	show(strings.Replace(cert, "-----\n", "-----\n!", 1)+cert, ec(e))
	show(strings.Replace(cert, "-----\n", "-----\n   \n", 1), ec(e))
	show(cert[:len(cert)-3], ec(e))
	show(strings.TrimSuffix(cert, "\n")+"x\n", ec(e))
	show("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"+cert, ec(e))
	show("-----BEGIN A-----\nB: c\n-----END A-----\n"+cert, ec(e))
	show("-----BEGIN A-----\nB: c", ec(e))
	show("-----END CERTIFICATE-----\n"+cert, ec(e))
	show("\n-----END CERTIFICATE-----\n"+cert, ec(e))
}
