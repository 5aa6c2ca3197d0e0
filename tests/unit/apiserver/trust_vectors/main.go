// SPDX-License-Identifier: Apache-2.0

// Records what upstream's rules say of ClusterTrustBundles and PodCertificateRequests with good and
// bad keys, signatures and chains, for tests/unit/apiserver/test_trust.c. One line a case:
// KIND SUBRESOURCE NOW_S, the object, the old one or null, the causes, separated by tabs, as JSON.
// Usage: GOFLAGS=-mod=mod GOWORK=off go run . >../trust_vectors.txt
package main

import (
	"bufio"
	"crypto"
	"crypto/dsa" //nolint
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"

	v1beta1 "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/certificates"
	_ "k8s.io/kubernetes/pkg/apis/certificates/install"
	"k8s.io/kubernetes/pkg/apis/certificates/validation"
	testclock "k8s.io/utils/clock/testing"
)

var out = bufio.NewWriter(os.Stdout)
var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

type cause struct{ Type, Field, Message string }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func show(kind, sub string, obj, old any, errs field.ErrorList) {
	causes := []cause{}
	for _, e := range errs {
		causes = append(causes, cause{string(e.Type), e.Field, e.ErrorBody()})
	}
	sub = "/" + sub
	fmt.Fprintf(out, "%s %s %d\t%s\t%s\t%s\n", kind, sub, now.Unix(), must(json.Marshal(obj)),
		must(json.Marshal(old)), must(json.Marshal(causes)))
}

func internal[T runtime.Object](o runtime.Object) T {
	o = o.DeepCopyObject()
	legacyscheme.Scheme.Default(o)
	return must(legacyscheme.Scheme.UnsafeConvertToVersion(o, certificates.SchemeGroupVersion)).(T)
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: "certificates.k8s.io/v1beta1", Kind: kind}
}

func meta(name, ns string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: ns, UID: "u", ResourceVersion: "7", CreationTimestamp: metav1.NewTime(now)}
}

func bundle(text string) {
	b := &v1beta1.ClusterTrustBundle{TypeMeta: typeMeta("ClusterTrustBundle"), ObjectMeta: meta("b", ""), Spec: v1beta1.ClusterTrustBundleSpec{TrustBundle: text}}
	in := internal[*certificates.ClusterTrustBundle](b)
	show("ClusterTrustBundle", "", b, nil, validation.ValidateClusterTrustBundle(in, validation.ValidateClusterTrustBundleOptions{}))
	old := b.DeepCopy()
	old.Spec.TrustBundle = "old"
	show("ClusterTrustBundle", "", b, old, validation.ValidateClusterTrustBundleUpdate(in, internal[*certificates.ClusterTrustBundle](old)))
	show("ClusterTrustBundle", "", b, b, validation.ValidateClusterTrustBundleUpdate(in, in))
}

type opts struct {
	ca, basic bool
	dns, mail []string
	from, to  time.Time
}

func cert(pub crypto.PublicKey, by crypto.Signer, o opts) []byte {
	if o.from.IsZero() {
		o.from, o.to = now, now.Add(2*time.Hour)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "x"}, NotBefore: o.from, NotAfter: o.to,
		IsCA: o.ca, BasicConstraintsValid: o.basic, DNSNames: o.dns, EmailAddresses: o.mail}
	return must(x509.CreateCertificate(rand.Reader, t, t, pub, by))
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func request(change func(*v1beta1.PodCertificateRequestSpec)) *v1beta1.PodCertificateRequest {
	age := int32(86400)
	r := &v1beta1.PodCertificateRequest{TypeMeta: typeMeta("PodCertificateRequest"), ObjectMeta: meta("r", "ns1"), Spec: v1beta1.PodCertificateRequestSpec{
		SignerName: "example.com/s", PodName: "p", PodUID: "pod-uid", ServiceAccountName: "sa", ServiceAccountUID: "u2", NodeName: "n1", NodeUID: "u3", MaxExpirationSeconds: &age}}
	change(&r.Spec)
	return r
}

func create(change func(*v1beta1.PodCertificateRequestSpec)) *v1beta1.PodCertificateRequest {
	r := request(change)
	show("PodCertificateRequest", "", r, nil, validation.ValidatePodCertificateRequestCreate(internal[*certificates.PodCertificateRequest](r)))
	return r
}

func stub(der []byte) func(*v1beta1.PodCertificateRequestSpec) {
	return func(s *v1beta1.PodCertificateRequestSpec) { s.StubPKCS10Request = der }
}

func proof(pub crypto.PublicKey, sig []byte) func(*v1beta1.PodCertificateRequestSpec) {
	return func(s *v1beta1.PodCertificateRequestSpec) {
		s.PKIXPublicKey, s.ProofOfPossession = must(x509.MarshalPKIXPublicKey(pub)), sig //nolint
	}
}

func csr(key crypto.Signer) []byte {
	return must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
}

func status(old *v1beta1.PodCertificateRequest, chain string, change func(*v1beta1.PodCertificateRequestStatus)) {
	r := old.DeepCopy()
	r.Status.Conditions = []metav1.Condition{{Type: "Issued", Status: "True", Reason: "R", Message: "m", LastTransitionTime: metav1.NewTime(now)}}
	from, to, refresh := metav1.NewTime(now), metav1.NewTime(now.Add(2*time.Hour)), metav1.NewTime(now.Add(time.Hour))
	r.Status.CertificateChain, r.Status.NotBefore, r.Status.NotAfter, r.Status.BeginRefreshAt = chain, &from, &to, &refresh
	if change != nil {
		change(&r.Status)
	}
	show("PodCertificateRequest", "status", r, old, validation.ValidatePodCertificateRequestStatusUpdate(internal[*certificates.PodCertificateRequest](r),
		internal[*certificates.PodCertificateRequest](old), testclock.NewFakePassiveClock(now)))
}

func at(t time.Time) *metav1.Time { m := metav1.NewTime(t); return &m }

func main() {
	defer out.Flush()
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	p224, p256 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p384, p521 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	r2, r3 := must(rsa.GenerateKey(rand.Reader, 2048)), must(rsa.GenerateKey(rand.Reader, 3072))

	ca, ca2 := cert(p256.Public(), p256, opts{ca: true, basic: true}), cert(p384.Public(), p384, opts{ca: true, basic: true})
	leaf, plain := cert(p256.Public(), p256, opts{basic: true}), cert(p256.Public(), p256, opts{})
	good := block("CERTIFICATE", ca)
	bundle(good)
	bundle("words\n" + good + "\nmore\n" + block("CERTIFICATE", ca2))
	bundle(good + good)
	bundle(good + block("CERTIFICATE", ca2) + good + block("CERTIFICATE", ca2))
	bundle("")
	bundle("words")
	bundle(block("CERTIFICATE REQUEST", csr(ed)))
	bundle(block("CERTIFICATE", leaf) + good)
	bundle(block("CERTIFICATE", plain))
	bundle(block("CERTIFICATE", []byte("no")))
	bundle(block("CERTIFICATE", append(append([]byte{}, ca...), 0)))
	bundle(strings.Replace(good, "-----\n", "-----\nKey: value\n\n", 1))

	var issued []*v1beta1.PodCertificateRequest
	for _, k := range []crypto.Signer{ed, p224, p256, p384, p521, r2, r3} {
		issued = append(issued, create(stub(csr(k))))
	}
	bad := csr(p256)
	bad[len(bad)-1] ^= 1
	create(stub(bad))
	bad = csr(ed)
	bad[len(bad)-1] ^= 1
	create(stub(bad))
	create(stub([]byte("no")))
	create(stub(append(csr(ed), 0)))
	create(stub(make([]byte, 10*1024+1)))
	uid := []byte("pod-uid")
	sum := sha256.Sum256(uid)
	other := sha256.Sum256([]byte("x"))
	create(proof(ed.Public(), ed25519.Sign(ed, uid)))
	create(proof(ed.Public(), ed25519.Sign(ed, []byte("x"))))
	for _, k := range []*ecdsa.PrivateKey{p224, p256, p384, p521} {
		create(proof(k.Public(), must(ecdsa.SignASN1(rand.Reader, k, sum[:]))))
	}
	create(proof(p256.Public(), must(ecdsa.SignASN1(rand.Reader, p256, other[:]))))
	create(proof(p256.Public(), []byte("no")))
	for _, k := range []*rsa.PrivateKey{r2, r3} {
		create(proof(k.Public(), must(rsa.SignPSS(rand.Reader, k, crypto.SHA256, sum[:], nil))))
	}
	create(proof(r3.Public(), must(rsa.SignPKCS1v15(rand.Reader, r3, crypto.SHA256, sum[:]))))
	create(func(s *v1beta1.PodCertificateRequestSpec) {
		s.PKIXPublicKey, s.ProofOfPossession = []byte("no"), []byte("no") //nolint
	})
	create(func(s *v1beta1.PodCertificateRequestSpec) {
		s.PKIXPublicKey, s.ProofOfPossession = make([]byte, 10*1024+1), []byte("no") //nolint
	})
	create(func(s *v1beta1.PodCertificateRequestSpec) {
		s.PKIXPublicKey, s.ProofOfPossession = []byte("no"), make([]byte, 10*1024+1) //nolint
	})
	// A key of DSA.
	params := must(asn1.Marshal(struct{ P, Q, G *big.Int }{big.NewInt(23), big.NewInt(11), big.NewInt(4)}))
	y := must(asn1.Marshal(big.NewInt(8)))
	var _ dsa.PublicKey
	spki := must(asn1.Marshal(struct {
		Algo pkix.AlgorithmIdentifier
		Key  asn1.BitString
	}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}, Parameters: asn1.RawValue{FullBytes: params}}, asn1.BitString{Bytes: y, BitLength: 8 * len(y)}}))
	create(func(s *v1beta1.PodCertificateRequestSpec) {
		s.PKIXPublicKey, s.ProofOfPossession = spki, []byte("no") //nolint
	})
	create(func(s *v1beta1.PodCertificateRequestSpec) {})
	create(func(s *v1beta1.PodCertificateRequestSpec) {
		s.MaxExpirationSeconds, s.StubPKCS10Request = nil, []byte("no")
	})

	old := issued[0]
	chain := func(o opts) string { return block("CERTIFICATE", cert(ed.Public(), ed, o)) }
	status(old, chain(opts{}), nil)
	status(old, chain(opts{})+good, nil)
	status(old, chain(opts{})+block("OTHER", ca), nil)
	status(old, chain(opts{})+block("CERTIFICATE", []byte("no")), nil)
	status(old, "", nil)
	status(old, block("OTHER", ca), nil)
	status(old, block("CERTIFICATE", []byte("no")), nil)
	status(old, good, nil)
	status(old, chain(opts{dns: []string{"a.example", ".b", "c.", "d..e"}}), nil)
	status(old, chain(opts{mail: []string{"a@b.example", "nobody"}}), nil)
	status(old, chain(opts{}), func(s *v1beta1.PodCertificateRequestStatus) { s.NotBefore = nil })
	status(old, chain(opts{}), func(s *v1beta1.PodCertificateRequestStatus) { s.NotAfter, s.BeginRefreshAt = nil, nil })
	status(old, chain(opts{}), func(s *v1beta1.PodCertificateRequestStatus) { s.NotBefore = at(now.Add(time.Second)) })
	status(old, chain(opts{}), func(s *v1beta1.PodCertificateRequestStatus) { s.NotAfter = at(now) })
	status(old, chain(opts{}), func(s *v1beta1.PodCertificateRequestStatus) { s.BeginRefreshAt = at(now.Add(599 * time.Second)) })
	status(old, chain(opts{}), func(s *v1beta1.PodCertificateRequestStatus) { s.BeginRefreshAt = at(now.Add(6601 * time.Second)) })
	for _, d := range []time.Duration{-5 * time.Minute, -299 * time.Second, 299 * time.Second, 5 * time.Minute} {
		status(old, chain(opts{from: now.Add(d), to: now.Add(2 * time.Hour)}), func(s *v1beta1.PodCertificateRequestStatus) { s.NotBefore = at(now.Add(d)) })
	}
	for _, d := range []time.Duration{time.Hour - time.Second, time.Hour, 24 * time.Hour, 24*time.Hour + time.Second} {
		status(old, chain(opts{from: now, to: now.Add(d)}), func(s *v1beta1.PodCertificateRequestStatus) {
			s.NotAfter, s.BeginRefreshAt = at(now.Add(d)), at(now.Add(30*time.Minute))
		})
	}
	status(issued[2], block("CERTIFICATE", cert(p256.Public(), p256, opts{})), nil)
	status(issued[6], block("CERTIFICATE", cert(r3.Public(), r3, opts{})), nil)
	status(request(proof(ed.Public(), []byte("x"))), chain(opts{}), nil)
	status(request(proof(p256.Public(), []byte("x"))), chain(opts{}), nil)
	status(request(stub([]byte("no"))), chain(opts{}), nil)
	status(request(func(s *v1beta1.PodCertificateRequestSpec) { s.PKIXPublicKey = []byte("no") }), chain(opts{}), nil) //nolint
}
