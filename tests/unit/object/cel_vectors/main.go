// SPDX-License-Identifier: Apache-2.0

// Command cel_vectors evaluates CEL expressions with Kubernetes' own environment and writes what it
// says, one JSON array a line: what test_cel.c checks object/cel against. Run by hand:
//
//	go run . > ../../../fixtures/cel/vectors.jsonl
//	go run . schema > ../../../fixtures/cel/schema.jsonl
//
// The expressions come from expressions.txt beside this file, from cel-spec's conformance tests and
// the tests of k8s.io/apiserver in the module cache, and from a random generator with a fixed seed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	"google.golang.org/protobuf/encoding/prototext"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"

	_ "cel.dev/expr/conformance/proto2"
	_ "cel.dev/expr/conformance/proto3"
	conformance "cel.dev/expr/conformance/test"
)

// Variables of every expression; test_cel.c binds the same.
var input = map[string]any{
	"i": int64(5), "u": uint64(7), "d": 2.5, "s": "hello wörld", "b": true,
	"li": []int64{1, 2, 3}, "ls": []string{"a", "bb", "ccc"},
	"ms": map[string]any{"a": "x"},
	"dyno": map[string]any{
		"name": "web", "replicas": int64(3), "ratio": 0.5, "on": true, "none": nil,
		"labels": map[string]any{"app": "web"},
		"items":  []any{map[string]any{"name": "one", "n": int64(1)}, map[string]any{"name": "two"}},
	},
}

func env() *cel.Env {
	base := environment.MustBaseEnvSet(version.MajorMinor(1, 36))
	set, err := base.Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions: []cel.EnvOption{
			cel.Variable("i", cel.IntType), cel.Variable("u", cel.UintType),
			cel.Variable("d", cel.DoubleType), cel.Variable("s", cel.StringType),
			cel.Variable("b", cel.BoolType), cel.Variable("li", cel.ListType(cel.IntType)),
			cel.Variable("ls", cel.ListType(cel.StringType)),
			cel.Variable("ms", cel.MapType(cel.StringType, cel.StringType)),
			cel.Variable("dyno", cel.DynType),
		},
	})
	if err != nil {
		panic(err)
	}
	return set.NewExpressionsEnv()
}

type estimator struct{ library.CostEstimator }

func (estimator) EstimateSize(checker.AstNode) *checker.SizeEstimate { return nil }

// [expression, type, value, cost, estimate min, max] or [expression, "", error] for what does not
// compile or [expression, type, null, cost, min, max, error].
func evaluate(e *cel.Env, expr string) (line []any) {
	defer func() {
		if r := recover(); r != nil {
			line = nil
		}
	}()
	ast, iss := e.Compile(expr)
	if iss != nil && iss.Err() != nil {
		return []any{expr, "", iss.String()}
	}
	prog, err := e.Program(ast)
	if err != nil {
		return []any{expr, "", err.Error()}
	}
	est, err := e.EstimateCost(ast, &library.CostEstimator{SizeEstimator: &estimator{}})
	if err != nil {
		return nil
	}
	typ := ast.OutputType().String()
	out, details, err := prog.Eval(input)
	if details == nil || details.ActualCost() == nil {
		return nil
	}
	min, max := strconv.FormatUint(est.Min, 10), strconv.FormatUint(est.Max, 10)
	cost := strconv.FormatUint(*details.ActualCost(), 10)
	if err != nil {
		if strings.Contains(err.Error(), "internal error") {
			return nil
		}
		return []any{expr, typ, nil, cost, min, max, err.Error()}
	}
	return []any{expr, typ, types.Format(out), cost, min, max}
}

// Go walks maps in any order: what depends on it is left out.
func stable(e *cel.Env, expr string) []any {
	line := evaluate(e, expr)
	for i := 0; i < 6; i++ {
		if !reflect.DeepEqual(line, evaluate(e, expr)) {
			return nil
		}
	}
	return line
}

func modulePath(mod string) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", mod).Output()
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(out))
}

func conformanceExpressions() (all []string) {
	skip := regexp.MustCompile(`(?i)TestAllTypes|NestedTestAll|google\.protobuf|proto2|proto3|base64|math\.|cel\.bind|cel\.block|proto\.|cel\.expr`)
	files, _ := filepath.Glob(modulePath("cel.dev/expr") + "/tests/simple/testdata/*.textproto")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			panic(err)
		}
		var file conformance.SimpleTestFile
		if err := (prototext.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, &file); err != nil {
			fmt.Fprintln(os.Stderr, f, err)
			continue
		}
		for _, section := range file.Section {
			for _, test := range section.Test {
				if !skip.MatchString(test.Expr) && len(test.Expr) < 2000 {
					all = append(all, test.Expr)
				}
			}
		}
	}
	return all
}

// String literals of upstream's tests that look like expressions.
func testExpressions() (all []string) {
	literal := regexp.MustCompile("`([^`\n]{3,300})`|\"((?:[^\"\\\\\n]|\\\\.){3,300})\"")
	looks := regexp.MustCompile(`[a-zA-Z_]\w*\(|==|&&|\|\|`)
	dir := modulePath("k8s.io/apiserver") + "/pkg/cel/library/"
	files, _ := filepath.Glob(dir + "*_test.go")
	files = append(files, modulePath("k8s.io/apiextensions-apiserver")+
		"/pkg/apiserver/schema/cel/validation_test.go",
		modulePath("k8s.io/apiextensions-apiserver")+
			"/pkg/apiserver/schema/cel/celcoststability_test.go")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for _, m := range literal.FindAllStringSubmatch(string(text), -1) {
			s := m[1]
			if s == "" {
				q, err := strconv.Unquote(`"` + m[2] + `"`)
				if err != nil {
					continue
				}
				s = q
			}
			if looks.MatchString(s) && !strings.Contains(s, "%v") {
				all = append(all, s)
			}
		}
	}
	return all
}

func main() {
	e := env()
	seen := map[string]bool{}
	if len(os.Args) > 1 && os.Args[1] == "schema" {
		enc := json.NewEncoder(os.Stdout)
		enc.SetEscapeHTML(false)
		enc.Encode([]any{json.RawMessage(crdSchema), json.RawMessage(crdObject)})
		schemaVectors(func(line []any) { enc.Encode(line) })
		return
	}
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	emit := func(exprs []string) {
		for _, x := range exprs {
			// Quantities beyond what kinglet computes exactly.
			if seen[x] || strings.Contains(x, "99999999999999999999") {
				continue
			}
			seen[x] = true
			if line := stable(e, x); line != nil {
				if err := enc.Encode(line); err != nil {
					panic(err)
				}
			}
		}
	}
	own, err := os.ReadFile("expressions.txt")
	if err != nil {
		panic(err)
	}
	for _, line := range strings.Split(string(own), "\n") {
		if line != "" && line[0] != '#' {
			emit([]string{line})
		}
	}
	emit(conformanceExpressions())
	emit(testExpressions())
	emit(randomExpressions(1500))
}
