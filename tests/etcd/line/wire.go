// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of v3lockpb and v3electionpb by hand: their package is the server's, with all that it
// depends on.
type message []byte

func (m message) bytes(n protowire.Number, v string) message {
	if v == "" {
		return m
	}
	return protowire.AppendString(protowire.AppendTag(m, n, protowire.BytesType), v)
}

func (m message) empty(n protowire.Number) message {
	return protowire.AppendString(protowire.AppendTag(m, n, protowire.BytesType), "")
}

func (m message) int(n protowire.Number, v int64) message {
	if v == 0 {
		return m
	}
	return protowire.AppendVarint(protowire.AppendTag(m, n, protowire.VarintType), uint64(v))
}

type fields struct {
	ints  map[protowire.Number]int64
	bytes map[protowire.Number]string
}

func decode(m []byte) fields {
	f := fields{map[protowire.Number]int64{}, map[protowire.Number]string{}}
	for len(m) > 0 {
		n, t, size := protowire.ConsumeTag(m)
		if size < 0 {
			panic("malformed message")
		}
		m = m[size:]
		switch t {
		case protowire.VarintType:
			v, size := protowire.ConsumeVarint(m)
			f.ints[n], m = int64(v), m[size:]
		case protowire.BytesType:
			v, size := protowire.ConsumeBytes(m)
			f.bytes[n], m = string(v), m[size:]
		default:
			panic("unexpected wire type")
		}
	}
	return f
}

func (f fields) message(n protowire.Number) fields { return decode([]byte(f.bytes[n])) }

func (f fields) revision() int64 { return f.message(1).ints[3] } // of the header

type raw struct{}

func (raw) Name() string                  { return "proto" }
func (raw) Marshal(v any) ([]byte, error) { return *v.(*message), nil }
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*message) = append(message{}, data...)
	return nil
}

func (s *server) call(ctx context.Context, method string, m message) (fields, error) {
	var answer message
	err := s.conn.Invoke(ctx, method, &m, &answer, grpc.ForceCodec(raw{}))
	return decode(answer), err
}

func (s *server) observe(ctx context.Context, name string) (func() (fields, error), error) {
	st, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, electionService+"Observe", grpc.ForceCodec(raw{}))
	if err != nil {
		return nil, err
	}
	m := message{}.bytes(1, name)
	if err := st.SendMsg(&m); err != nil {
		return nil, err
	}
	return func() (fields, error) {
		var answer message
		err := st.RecvMsg(&answer)
		return decode(answer), err
	}, st.CloseSend()
}

func errText(err error) string {
	if err == nil {
		return "ok"
	}
	st := status.Convert(err)
	return fmt.Sprintf("%s: %s", st.Code(), st.Message())
}
