// SPDX-License-Identifier: Apache-2.0
// What the two grammars of datastore URLs share.
#pragma once
#include "store/sql/endpoint.h"

// The URL being taken apart, for its messages.
struct kl_endpoint_text {
    const char *scheme; // "postgres://"
    struct kl_str rest;
};

// "datastore URL: <fmt>" with the URL's password masked. Returns KL_EINVALID. What fmt shows must
// not be able to be part of a password.
int kl_endpoint_bad(const struct kl_endpoint_text *t, struct kl_error *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// Sets *field to a copy of s, percent-decoded when asked (and + to a space, as in a query); an
// empty s leaves NULL. KL_EINVALID: a broken escape or a NUL.
int kl_endpoint_set(char **field, struct kl_str s, bool decode, bool plus);
int kl_endpoint_param(struct kl_endpoint *e, const char *name, const char *value);
const char *kl_endpoint_find(const struct kl_endpoint *e, const char *name);

// Walks "a=b&c=d". The strings are the caller's, decoded. 1: one more; 0: the end.
int kl_endpoint_next_query(struct kl_str *rest, char **ret_name, char **ret_value);
// "host", "host:port", "[::1]:port"; ports are 1 to 65535. With decode the host's escapes go.
int kl_endpoint_set_host(const struct kl_endpoint_text *t, struct kl_str s, bool decode,
                         char **ret_host, char **ret_port, struct kl_error *err);

int kl_endpoint_parse_pg(const struct kl_endpoint_text *t, const struct kl_store_options *o,
                         struct kl_endpoint *e, struct kl_error *err);
int kl_endpoint_parse_my(const struct kl_endpoint_text *t, const struct kl_store_options *o,
                         struct kl_endpoint *e, struct kl_error *err);
