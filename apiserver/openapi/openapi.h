// SPDX-License-Identifier: Apache-2.0
// OpenAPI v2 and v3 of what the server serves, written from the schema tables when somebody asks,
// piece by piece as the socket takes it, and kept nowhere. Built-in kinds come from the tables;
// custom resources and aggregated API servers contribute through a source each.
#pragma once
#include "apiserver/server_int.h"

// One served version of a custom resource.
struct kl_openapi_custom {
    const struct kl_resource *res; // names, scope, verbs, subresources (status, scale)
    const char *list_kind;         // NULL: the kind with "List" behind it
    // spec.versions[].selectableFields as JSON text; empty: none.
    struct kl_str selectable;
    void *keep; // the source's; handed to its ref, unref and schema
};

// Who knows the custom resources. All functions come on an API loop; what `each` shows is good
// during the call of `row` unless it is referenced, then until the reference is given back (on the
// same loop, within the life of one answer).
struct kl_openapi_source {
    void *arg;
    // Shows the served rows of a group and version, or all of them (group.p is NULL), grouped by
    // group and version.
    void (*each)(void *arg, struct kl_api_loop *al, struct kl_str group, struct kl_str version,
                 void (*row)(void *row_arg, const struct kl_openapi_custom *c), void *row_arg);
    // Appends spec.versions[].schema.openAPIV3Schema as JSON text (an object), as it stands in the
    // custom resource definition. Nothing appended: the version has no schema. Negative: no memory.
    int (*schema)(void *arg, const struct kl_openapi_custom *c, struct kl_buf *out);
    void (*ref)(void *arg, void *keep);
    void (*unref)(void *arg, void *keep);
    // A number that changes when what `each` or `schema` say of this group and version changes
    // (group.p NULL: of anything): hashes and ETags are made of it.
    uint64_t (*stamp)(void *arg, struct kl_api_loop *al, struct kl_str group,
                      struct kl_str version);
};

// Sets the source of custom resources; before the server's loops run. Borrowed for its life.
void kl_openapi_set_source(struct kl_apiserver *s, const struct kl_openapi_source *src);

// Answers /openapi/v2, /openapi/v3 and what is below. Ends the request.
void kl_openapi_run(struct kl_api_call *c);
