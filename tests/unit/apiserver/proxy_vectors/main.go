// SPDX-License-Identifier: Apache-2.0

// Records what upstream's proxy.Transport makes of Location headers and pages:
//
//	GOFLAGS=-mod=mod GOWORK=off go run . [HOW MANY [SEED]] > ../proxy_vectors.txt
//
// A line is PREPEND, SOURCE, ASKED (as in struct kl_link_rule), L or P, what came and what goes on,
// parted by tabs; in texts what is not printable is \xHH. A Location that cannot be parsed has "!".
package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/proxy"
)

const source = "10.0.0.1:8080"

type answer struct {
	header http.Header
	body   string
}

func (a answer) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: a.header, Body: io.NopCloser(strings.NewReader(a.body))}, nil
}

type rule struct{ prepend, asked string }

func (r rule) ask(a answer) (*http.Response, error) {
	t := &proxy.Transport{PathPrepend: r.prepend, RoundTripper: a}
	req := &http.Request{Method: "GET", Host: r.asked, Header: http.Header{},
		URL: &url.URL{Scheme: "http", Host: source, Path: "/"}}
	return t.RoundTrip(req)
}

func shown(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' || s[i] == '\\' {
			fmt.Fprintf(&b, "\\x%02x", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

var rules = []rule{
	{"/api/v1/namespaces/n/pods/p/proxy", "cluster:6443"},
	{"/api/v1/nodes/n/proxy", "127.0.0.1:8001"},
	{"/api/v1/namespaces/n/services/s/proxy/a", source},
}

var links = strings.Split(` / // /// /a /a/ /a/b a a/b ../a ./ ? # ?q=1&r=2 #f %20 %2F %2f %zz % %25 + * : @ ! ( ) [ ] ; = ~ " ' < > `+"`"+
	` { } | ^ , $ & http: https: HTTP: mailto:a@b file: javascript:x 1a: :80 :x :0 10.0.0.1:8080 cluster:6443 127.0.0.1:8001 `+
	`//10.0.0.1:8080 http://10.0.0.1:8080/x //cluster:6443/y http://u:p@10.0.0.1:8080/ u@ u:@ : [::1] [::1]:80 [fe80::1%25en0] `+
	`[1.2.3.4] [x] ] ex.am.ple é 日 /api/v1/namespaces/n/pods/p/proxy /api/v1/nodes/n/proxy/x .. . /../ /./ b:c %41 %C3%A9`, " ")

var pieces = []string{
	"<", ">", "</", "/>", "<!", "<!-", "<!--", "-->", "--!>", "--", "-", "!", "?", "<?", "&", ";", "=", "/", " ", "\n", "\r", "\r\n", "\t", "\f",
	"\"", "'", "a", "A", "<a ", "<A HREF=", "<a href=\"", "<a href='/x'", " href=/y ", "href", "HREF = \"/z?a=1&amp;b=2\"", "</a>", "</A >", "</a href=\">\">",
	"<img src=", "<IMG SRC=\"/i.png\" usemap=#m longdesc=/l/>", "<script>", "<script src=/s.js>", "</script>", "</SCRIPT >", "<script", "</script", "<!--<script>", "<!doctype html>", "<!DOCTYPE",
	"<style>", "</style>", "<title>", "</title>", "<textarea>", "</textarea>", "<noscript>", "</noscript>", "<xmp>", "</xmp>", "<plaintext>", "<iframe src=/f>", "</iframe>",
	"<br/>", "<br a=/>", "<p =x=y>", "<p / a / b>", "<p a=b/c='d'e>", "<base href=/b/>", "<form action=\"/f\">", "<body background=/bg>", "<object data=/d codebase=c classid=x usemap=u>",
	"&amp", "&amp;", "&lt;", "&copy=1", "&copy", "&notin;", "&#x2F;", "&#47;", "&#47", "&#0;", "&#x80;", "&#xD800;", "&#9999999999;", "&#xfffffffff;", "&#5x", "&#;", "&#x;", "&NotEqualTilde;", "&fjlig;", "&zzz;",
	"\x00", "é", "\xff", "http://10.0.0.1:8080/p", "/api/v1/nodes/n/proxy/q", "x", "ab cd", "[CDATA[", "]]>", "<video poster=/p.jpg src=\"/v\">", "<q cite=/c>", "<input formaction=/g>",
	"<a href=\"", "<a href=\"", "<link href=\"/l.css\">", "\"", "'",
}

func soup(r *rand.Rand, from []string, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(from[r.Intn(len(from))])
	}
	return b.String()
}

func main() {
	count, seed := 700, int64(1)
	if len(os.Args) > 1 {
		count, _ = strconv.Atoi(os.Args[1])
	}
	if len(os.Args) > 2 {
		seed, _ = strconv.ParseInt(os.Args[2], 10, 64)
	}
	r := rand.New(rand.NewSource(seed))
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for i := range 2 * count {
		rule := rules[r.Intn(len(rules))]
		from := soup(r, links, 1+r.Intn(5))
		if i < len(links) {
			from = links[i]
		}
		if from == "" {
			continue
		}
		resp, err := rule.ask(answer{header: http.Header{"Location": {from}}})
		to := "!"
		if err == nil {
			to = shown(resp.Header.Get("Location"))
		}
		fmt.Fprintf(out, "%s\t%s\t%s\tL\t%s\t%s\n", rule.prepend, source, rule.asked, shown(from), to)
	}
	for range count {
		rule := rules[r.Intn(len(rules))]
		from := soup(r, pieces, 1+r.Intn(14))
		resp, err := rule.ask(answer{header: http.Header{"Content-Type": {"text/html"}}, body: from})
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(resp.Body)
		fmt.Fprintf(out, "%s\t%s\t%s\tP\t%s\t%s\n", rule.prepend, source, rule.asked, shown(from), shown(string(body)))
	}
}
