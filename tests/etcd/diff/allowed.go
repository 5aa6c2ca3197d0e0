// SPDX-License-Identifier: Apache-2.0

package main

import "google.golang.org/protobuf/proto"

// The differences that are meant, each with its reason. Everything else fails.
var allowed = []struct {
	reason string
	match  func(req, a, b proto.Message, errA, errB string) bool
}{}

func (d *diff) excuse(req, a, b proto.Message, errA, errB string) bool {
	for _, x := range allowed {
		if x.match(req, a, b, errA, errB) {
			d.excused[x.reason]++
			return true
		}
	}
	return false
}
