// SPDX-License-Identifier: Apache-2.0
// What the aggregator's files share.
#pragma once
#include "apiserver/aggregate/aggregate.h"
#include "client/client.h"

enum {
    KL_AGGREGATE_MAX = 256,         // APIServices that name a Service; further ones stay unknown
    KL_AGGREGATE_TICK_MS = 1000,    // looks at changed objects
    KL_AGGREGATE_RESYNC_MS = 30000, // asks an available server again
    KL_AGGREGATE_RETRY_MS = 5000,   // asks one that did not answer again
    KL_AGGREGATE_TIMEOUT_MS = 5000, // of such a question
    KL_AGGREGATE_MAX_ANSWER = 16 << 20,
    KL_AGGREGATE_MAX_DOCUMENTS = 16 << 20, // of OpenAPI documents, as they are kept
};

// ---- remote.c: where a request goes and how.
struct kl_extension {
    struct kl_str host; // to be dialled
    int port;
    struct kl_tls_ctx *tls; // of the loop's cache, borrowed
    struct kl_str shown;    // "https://10.0.0.1:443", for messages
};
// The reason and message of upstream's availability controller when the Service cannot be used;
// *ret_reason NULL: it can. `a` gets the texts.
void kl_extension_check(struct kl_api_loop *al, struct kl_arena *a,
                        const struct kl_value *apiservice, const char **ret_reason,
                        struct kl_str *ret_message);
int kl_extension_find(struct kl_api_loop *al, struct kl_arena *a, struct kl_object *apiservice,
                      struct kl_extension *ret, struct kl_error *err);
// The loop's client, made on first use.
int kl_extension_client(struct kl_api_loop *al, struct kl_http_client **ret, struct kl_error *err);
// X-Remote-* of a user, appended to h. As many as fit; false when they do not.
bool kl_extension_user_headers(struct kl_arena *a, const struct kl_user *u,
                               struct kl_http_header *h, size_t *n, size_t max);
// An error of the client in Go's words: the system's begin with a small letter there.
struct kl_str kl_extension_error(struct kl_arena *a, int status, const struct kl_error *err);
bool kl_apiservice_is_available(const struct kl_value *apiservice);

// ---- available.c
struct kl_aggregate_item {
    char name[256];
    char group[256], version[64];
    int64_t group_priority, version_priority;
    kl_rev seen_rev;  // of the object when it was last looked at
    kl_rev state_rev; // of the store when Services and endpoints were last looked at
    bool here, current, checking, writing;
    int64_t due_ms;
    struct kl_bytes *resources, *openapi;
    struct kl_remote_doc *document; // version 2; the last that was right
    uint64_t document_stamp;        // of the last that came
    struct kl_upgraded *upgraded;   // version 3 of it, when the server has none
    uint64_t upgraded_stamp;        // of what it was last made of, or could not be
};

struct kl_aggregate {
    struct kl_apiserver *srv;
    struct kl_client *client; // on loops[0]
    uv_timer_t timer;
    uv_mutex_t lock; // of items' texts and order: discovery reads them on other loops
    struct kl_aggregate_item *items[KL_AGGREGATE_MAX];
    size_t nitems;
    bool running, stopping;
    int flying;      // calls not over
    kl_rev last_rev; // of the view at the last tick
    kl_rev newest;   // of the APIServices in it, and how many they are
    size_t nobjects;
    struct kl_local *local; // local.c
};

// What a server answers, which nobody has looked at yet. NULL: it is nothing of the kind.
// An APIResourceList as aggregated discovery shows its resources, with commas between them.
struct kl_bytes *kl_aggregate_resources(struct kl_arena *a, struct kl_str text, struct kl_str group,
                                        struct kl_str version);
// The hash of /openapi/v3/apis/GROUP/VERSION in the server's index.
struct kl_bytes *kl_aggregate_openapi_hash(struct kl_arena *a, struct kl_str text,
                                           const char *group, const char *version);

// ---- local.c: APIServices of the groups that this server has itself.
int kl_local_new(struct kl_aggregate *g, struct kl_local **ret);
void kl_local_free(struct kl_local *l);
// Compares what is served with the objects, one tick's worth; writes what is missing or was
// changed. `changed`: an APIService was since the last tick.
void kl_local_tick(struct kl_local *l, bool changed);
