// SPDX-License-Identifier: Apache-2.0

// Package clients runs Go's clients of Kubernetes against kinglet: client-go on `kinglet
// test-server`, controller-runtime's envtest on two links of the binary named etcd and
// kube-apiserver. KINGLET names the binary.
package clients

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const deadline = 60 * time.Second

func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("KINGLET")
	if path == "" {
		t.Fatal("KINGLET names no binary")
	}
	return path
}

// startServer runs a test-server for the life of the test and gives the admin's configuration.
func startServer(t *testing.T, flags ...string) *rest.Config {
	t.Helper()
	cmd := exec.Command(binary(t), append([]string{"test-server"}, flags...)...)
	cmd.Stderr = os.Stderr
	// It ends with this pipe, however the test ends.
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("no line of the server: %v", err)
	}
	var ready struct{ Kubeconfig string }
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", ready.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

func asProtobuf(config *rest.Config) *rest.Config {
	c := rest.CopyConfig(config)
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	c.ContentType = runtime.ContentTypeProtobuf
	return c
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}
