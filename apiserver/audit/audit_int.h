// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "apiserver/audit/audit.h"
#include <pthread.h>

enum kl_audit_level {
    KL_AUDIT_NONE,
    KL_AUDIT_METADATA,
    KL_AUDIT_REQUEST,
    KL_AUDIT_REQUEST_RESPONSE,
    KL_AUDIT_LEVELS
};
enum kl_audit_stage {
    KL_AUDIT_RECEIVED,
    KL_AUDIT_STARTED,
    KL_AUDIT_COMPLETE,
    KL_AUDIT_PANIC,
    KL_AUDIT_STAGES
};

// ---- policy.c, pure
struct kl_audit_policy;
// A Policy, YAML or JSON. KL_EINVALID with upstream's wording.
int kl_audit_policy_parse(struct kl_str text, struct kl_audit_policy **ret, struct kl_error *err);
void kl_audit_policy_free(struct kl_audit_policy *p);
struct kl_audit_attrs {
    const struct kl_user *user; // NULL: nobody
    bool is_resource;
    struct kl_str verb, group, plural, sub, ns, name, path;
};
struct kl_audit_verdict {
    enum kl_audit_level level;
    unsigned omit; // stages, as bits
    bool omit_managed_fields;
};
void kl_audit_policy_ask(const struct kl_audit_policy *p, const struct kl_audit_attrs *t,
                         struct kl_audit_verdict *ret);
extern const char *const kl_audit_level_names[KL_AUDIT_LEVELS];
extern const char *const kl_audit_stage_names[KL_AUDIT_STAGES];

// ---- sink.c: a queue and the thread that empties it
enum kl_audit_mode { KL_AUDIT_BATCH, KL_AUDIT_BLOCKING, KL_AUDIT_STRICT };
struct kl_audit_sink;
struct kl_audit_sink_ops {
    // In the sink's thread: the events, in order. Negative: they are lost.
    int (*write)(void *arg, struct kl_bytes *const *events, size_t n);
    // Any thread, maybe during `write`: what is queued is still to be written, but with no patience
    // for a receiver that is away. May be NULL.
    void (*end)(void *arg);
    void (*free)(void *arg);
};
struct kl_audit_sink_options {
    const char *name; // "log", "webhook"
    enum kl_audit_mode mode;
    size_t max_events, max_bytes; // waiting
    size_t batch;                 // handed over at a time
    int64_t max_wait_ms;          // until a batch is full; 0: none
    double qps;                   // of batches; 0: no limit
    int burst;
    const struct kl_audit_sink_ops *ops;
    void *arg; // freed by ops
};
int kl_audit_sink_new(const struct kl_audit_sink_options *o, struct kl_audit_sink **ret,
                      struct kl_error *err);
// Takes a reference of its own. False: it was dropped, or with KL_AUDIT_STRICT the sink is broken.
bool kl_audit_sink_put(struct kl_audit_sink *s, struct kl_bytes *event);
void kl_audit_sink_free(struct kl_audit_sink *s); // after all is written
struct kl_audit_sink_stats {
    int64_t events, dropped, failed;
};
void kl_audit_sink_stats(struct kl_audit_sink *s, struct kl_audit_sink_stats *ret);

// ---- log.c: lines into a file that is rotated (as natefinch's lumberjack names them), or stdout
extern const struct kl_audit_sink_ops kl_audit_log_ops;
int kl_audit_log_new(const struct kl_api_settings *o, void **ret, struct kl_error *err);
// ---- webhook.c: EventLists
extern const struct kl_audit_sink_ops kl_audit_webhook_ops;
int kl_audit_webhook_new(const struct kl_api_settings *o, void **ret, struct kl_error *err);

struct kl_audit {
    struct kl_audit_policy *policy;
    struct kl_audit_sink *log, *webhook;
    bool legacy; // the log's format
    atomic_llong events, rejected, levels[KL_AUDIT_LEVELS];
};

struct kl_audit_event {
    struct kl_audit *audit;
    enum kl_audit_level level;
    unsigned omit;
    bool omit_managed_fields, long_running, started;
    char id[72];
    int64_t received_us;
    struct kl_str uri, agent;
    struct kl_str ips[8];
    size_t nips;
    struct kl_user *user, *impersonated; // referenced
    struct kl_str caller;                // JSON of what an earlier event said of the caller,
    const struct kl_user *caller_as;     // as whom it was made
    int code;
    struct kl_str status;            // JSON; empty: by the code
    struct kl_str request, response; // JSON
    bool listing, list_full;
    struct kl_buf list;              // the response, when it is a list
    size_t nlist;                    // items in it
    struct kl_str name, ns, uid, rv; // what the object sent says
    bool body_seen;
    const char *decision;
    struct kl_str reason;
};

// ---- event.c: one event at a stage, as JSON line or upstream's legacy line.
struct kl_bytes *kl_audit_encode(struct kl_req *r, enum kl_audit_stage stage, bool legacy);
// The object that was sent, from r->body or r->body_object, and what it says of itself.
void kl_audit_take_request(struct kl_req *r);
