// SPDX-License-Identifier: Apache-2.0
// Streams of pods (log, exec, attach, portforward) on their way to the kubelet. What was asked for
// is read once, into the options object of the API; that is what admission sees and all that the
// kubelet is told.
#pragma once
#include "apiserver/server_int.h"

// True: the user may, or there is nothing more to ask than was. A WebSocket comes as GET, which
// needs the verb "get" only: exec, attach and portforward need "create" whichever way they come
// (registry/core/pod/rest ensureAuthorizedForVerb). False: r->fail is set, or kl_ask_wait(&r->ask).
bool kl_connect_may(struct kl_req *r);
// Ends the request. `options` as admitted; NULL: a log's are read here.
void kl_connect_run(struct kl_api_call *c, const struct kl_value *options);

// The query as an object of the type (apimachinery's conversion of url.Values): the first value of
// a scalar, all of a list. Negative: r->fail is set.
int kl_connect_options(struct kl_req *r, struct kl_str query, const struct kl_type *type,
                       struct kl_value *ret);
// What upstream validates of PodLogOptions. Negative: r->fail is set.
int kl_connect_check_log(struct kl_req *r, const struct kl_value *options);
// The kubelet's query, with its question mark: "" when there is nothing to say (streamParams,
// LogLocation in registry/core/pod).
void kl_connect_query(struct kl_buf *b, const struct kl_value *options);
