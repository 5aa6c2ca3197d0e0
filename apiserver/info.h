// SPDX-License-Identifier: Apache-2.0
// Reads what a request asks for from its method, path and query.
#pragma once
#include "apiserver/request.h"

// Upstream's RequestInfoFactory.NewRequestInfo. Strings refer to `path` or the arena. Never fails:
// what is no resource path is a non-resource request.
void kl_req_info_parse(struct kl_arena *a, struct kl_str method, struct kl_str path,
                       struct kl_str query, struct kl_req_info *ret);

// One parameter of a raw query, percent-decoded into the arena; p is NULL when absent.
struct kl_str kl_query_get(struct kl_arena *a, struct kl_str query, struct kl_str name);
// strconv.NumError's word for a text that is no number, or too big a one.
const char *kl_number_complaint(struct kl_str digits);
bool kl_query_has(struct kl_str query, struct kl_str name);
// Walks repeated parameters: false when there is no more.
bool kl_query_next(struct kl_arena *a, struct kl_str *rest, struct kl_str *ret_name,
                   struct kl_str *ret_value);
bool kl_percent_ok(struct kl_str s); // every % is followed by two hexadecimal digits
struct kl_str kl_percent_decode(struct kl_arena *a, struct kl_str s, bool plus_is_space);

// Upstream's LongRunningFunc: watches, streams and what is passed on, profiles. No limit of time
// holds for them, and they are measured neither as in flight nor by how long they take.
bool kl_is_long_running(const struct kl_req_info *i);

// Fills r->opts from the query (ListOptions, CreateOptions, ...) for r->info, selectors parsed and
// checked; KL_EBADREQUEST and others fill r->fail.
int kl_req_opts_parse(struct kl_req *r, struct kl_str query);
// DeleteOptions sent as body: r->body, r->body_media; or as a value within something else (NULL:
// none). Negative: r->fail is set.
int kl_req_delete_options_body(struct kl_req *r);
int kl_req_delete_options(struct kl_req *r, const struct kl_value *options);
