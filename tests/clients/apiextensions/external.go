// SPDX-License-Identifier: Apache-2.0
// In place of what starts a server in upstream's test/integration/fixtures: an etcd and a
// kube-apiserver from KUBEBUILDER_ASSETS, as processes. tests/clients/suites puts it there.
package fixtures

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	serveroptions "k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	servertesting "k8s.io/apiextensions-apiserver/pkg/cmd/server/testing"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

var (
	etcdsMu sync.Mutex
	etcds   = map[string]string{}
)

func writeKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

func startEtcd(dir string) (string, *exec.Cmd, error) {
	url := fmt.Sprintf("http://127.0.0.1:%d", freePort())
	cmd := exec.Command(filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "etcd"), "--data-dir", filepath.Join(dir, "etcd"),
		"--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:0", "--unsafe-no-fsync")
	f, _ := os.Create(filepath.Join(dir, "etcd.log"))
	cmd.Stdout, cmd.Stderr = f, f
	return url, cmd, cmd.Start()
}

// What StartTestServer of the suite's own server does, with the same flags as far as this one has them.
func startDefaultServer(_ servertesting.Logger, flags ...string) (func(), servertesting.TestServer, error) {
	dir, err := os.MkdirTemp("", "apiext-")
	if err != nil {
		return nil, servertesting.TestServer{}, err
	}
	prefix := ""
	var extra []string
	for i := 0; i < len(flags); i++ {
		if flags[i] == "--etcd-prefix" {
			prefix = flags[i+1]
			i++
			continue
		}
		if strings.HasPrefix(flags[i], "--watch-cache=") {
			continue
		}
		extra = append(extra, flags[i])
	}
	var etcd *exec.Cmd
	etcdsMu.Lock()
	url := etcds[prefix]
	if prefix == "" || url == "" {
		if url, etcd, err = startEtcd(dir); err != nil {
			return nil, servertesting.TestServer{}, err
		}
		etcds[prefix] = url
		if prefix != "" {
			etcd = nil // shared until the program ends
		}
	}
	etcdsMu.Unlock()

	tokens := filepath.Join(dir, "tokens.csv")
	os.WriteFile(tokens, []byte("secret,admin,1,system:masters\n"), 0o600)
	key := filepath.Join(dir, "sa.key")
	if err := writeKey(key); err != nil {
		return nil, servertesting.TestServer{}, err
	}
	port := freePort()
	var gates []string
	for k, spec := range utilfeature.DefaultMutableFeatureGate.GetAll() {
		if on := utilfeature.DefaultFeatureGate.Enabled(k); on != spec.Default {
			gates = append(gates, fmt.Sprintf("%s=%v", k, on))
		}
	}
	args := append([]string{
		"--etcd-servers", url, "--cert-dir", filepath.Join(dir, "certs"), "--secure-port", fmt.Sprint(port),
		"--bind-address", "127.0.0.1", "--token-auth-file", tokens, "--authorization-mode", "RBAC",
		"--service-account-issuer", "https://localhost", "--service-account-signing-key-file", key,
		"--service-account-key-file", key,
		"--service-cluster-ip-range", "10.0.0.0/24",
		"--disable-admission-plugins", "NamespaceLifecycle,ServiceAccount,MutatingAdmissionWebhook,ValidatingAdmissionWebhook,ValidatingAdmissionPolicy,MutatingAdmissionPolicy",
	}, extra...)
	if len(gates) > 0 {
		args = append(args, "--feature-gates", strings.Join(gates, ","))
	}
	api := exec.Command(filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kube-apiserver"), args...)
	f, _ := os.Create(filepath.Join(dir, "api.log"))
	api.Stdout, api.Stderr = f, f
	if err := api.Start(); err != nil {
		return nil, servertesting.TestServer{}, err
	}
	died := make(chan struct{})
	go func() { api.Wait(); close(died) }()
	config := &rest.Config{Host: fmt.Sprintf("https://127.0.0.1:%d", port), BearerToken: "secret",
		QPS: 1000, Burst: 1000, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	stop := func() {
		api.Process.Kill()
		<-died
		if etcd != nil {
			etcd.Process.Kill()
			etcd.Wait()
		}
		os.RemoveAll(dir)
	}
	client := kubernetes.NewForConfigOrDie(config)
	for i := 0; ; i++ {
		select {
		case <-died:
			b, _ := os.ReadFile(filepath.Join(dir, "api.log"))
			return nil, servertesting.TestServer{}, fmt.Errorf("server died: %s", b)
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err := client.CoreV1().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		cancel()
		if err == nil {
			break
		}
		if i == 600 {
			stop()
			return nil, servertesting.TestServer{}, fmt.Errorf("not ready: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	opts := serveroptions.NewCustomResourceDefinitionsServerOptions(os.Stdout, os.Stderr)
	opts.RecommendedOptions.Etcd.StorageConfig.Transport.ServerList = []string{url}
	opts.RecommendedOptions.Etcd.StorageConfig.Prefix = "registry"
	return stop, servertesting.TestServer{ClientConfig: config, ServerOpts: opts, TearDownFn: stop, TmpDir: dir}, nil
}
