// SPDX-License-Identifier: Apache-2.0
// A request on its way through the API server: what was asked (apimachinery RequestInfo and the
// option types), by whom, and what came of it. The HTTP side and the in-process client both make
// one; everything between them and the store sees only this.
//
// All memory is the request's arena. A request lives on one loop.
#pragma once
#include "apiserver/auth/ask.h"
#include "apiserver/auth/user.h"
#include "base/loop.h"
#include "client/client.h"
#include "object/json.h"
#include "object/resource.h"
#include "object/selector.h"
#include "store/store.h"

struct kl_apiserver;
struct kl_api_loop;
struct kl_gather;
struct kl_series;
struct kl_fair_ticket;
struct kl_audit_event;
struct kl_conversion_memo;
struct kl_trace;

// RequestInfo (apiserver/pkg/endpoints/request).
struct kl_req_info {
    bool is_resource;
    struct kl_str path; // percent-decoded, for non-resource requests
    struct kl_str verb; // "get", "list", ... or the lower-case method of non-resources
    enum kl_verb op;    // of a resource request; KL_VERB_COUNT: of none of them
    bool is_options;    // OPTIONS, which only proxies pass on
    struct kl_str prefix, group, version, plural, sub, ns, name;
    struct kl_str rest;                  // path behind the subresource (proxy)
    const struct kl_resource *res;       // NULL: no such resource
    const struct kl_subresource *subres; // NULL: none asked, or no such
};

// Whether the path has a namespace where the kind has one; lists and watches go over all of them.
static inline bool kl_req_in_scope(const struct kl_req_info *i)
{
    bool over_all = i->op == KL_VERB_LIST || i->op == KL_VERB_WATCH;
    return i->res->namespaced ? i->ns.n || over_all : !i->ns.n;
}

enum kl_media { KL_MEDIA_NONE, KL_MEDIA_JSON, KL_MEDIA_YAML, KL_MEDIA_PROTOBUF };
enum kl_form { KL_FORM_OBJECT, KL_FORM_TABLE, KL_FORM_PARTIAL, KL_FORM_PARTIAL_LIST };
enum kl_include_object { KL_INCLUDE_METADATA, KL_INCLUDE_NONE, KL_INCLUDE_OBJECT };
enum kl_rv_match { KL_RV_MATCH_UNSET, KL_RV_MATCH_EXACT, KL_RV_MATCH_NOT_OLDER };

// ListOptions, CreateOptions, DeleteOptions, ... as far as they came by query, DeleteOptions body
// or struct kl_call.
struct kl_req_opts {
    struct kl_str label_selector, field_selector, resource_version, cont, field_manager;
    struct kl_selector labels, fields; // parsed; n == 0: everything
    struct kl_str name_from_fields;    // metadata.name=X was among the field selector's terms
    enum kl_rv_match rv_match;
    int64_t limit;
    int64_t timeout_s; // -1: not given
    bool watch, bookmarks, send_initial_events, send_initial_events_set;
    bool dry_run, force, force_set, pretty;
    enum kl_field_validation field_validation;
    enum kl_patch_type patch_type;
    enum kl_include_object include;
    // DeleteOptions
    int64_t grace_seconds; // -1: not given
    enum kl_propagation propagation;
    struct kl_str precondition_uid, precondition_rv;
};

// What a failure says: becomes a metav1.Status.
struct kl_cause {
    struct kl_str reason, message, field;
};
struct kl_fail {
    int http;             // 0: no failure
    struct kl_str reason; // "NotFound", ...
    struct kl_str message;
    struct kl_str kind, group, name, uid; // details
    struct kl_cause *causes;
    size_t ncauses;
    int retry_after_s;
    bool bare_details; // details are written even when they say nothing
};

enum kl_result_kind {
    KL_RESULT_NONE,
    KL_RESULT_FAIL,   // req->fail
    KL_RESULT_KV,     // an object of info.res as stored: `kv`
    KL_RESULT_OBJECT, // `value` of `type`
    KL_RESULT_LIST,   // `list`, of info.res (DELETECOLLECTION): the done callback lets go of it
};

// What admission says to the audit log beside its verdict: an annotation of the event.
struct kl_audit_note {
    struct kl_audit_note *next;
    struct kl_str key, value;
    bool at_request_level; // only where the request's own text is logged too (level Request and up)
};

struct kl_req {
    struct kl_apiserver *srv;
    struct kl_api_loop *al;
    uint64_t began_ns;                 // uv_hrtime; 0: not over HTTP
    struct kl_series *series, *events; // series.h: found once
    uint8_t counted;                   // 1 + place in inflight of the loop; 0: in none
    struct kl_arena *arena;
    struct kl_user *user;   // referenced
    struct kl_ask ask;      // what authentication and authorisation wait for
    struct kl_trace *trace; // trace/trace.h; NULL: nobody traces
    struct kl_req_info info;
    struct kl_req_opts opts;
    struct kl_str user_agent;
    struct kl_str user_audit_id; // Audit-Id that came with it

    // what was sent
    struct kl_str body; // bytes of body_media
    enum kl_media body_media;
    struct kl_object *body_object; // in-process callers send this instead; borrowed
    struct kl_object *admitted;    // what admission made of a review or token request; in kept

    // what came of it; valid when done is called
    enum kl_result_kind result;
    int http; // 200, 201, 202
    struct kl_fail fail;
    struct kl_kv *kv; // referenced; released by kl_req_fini
    const struct kl_type *type;
    struct kl_str api_version, kind; // of `value`
    struct kl_value value;
    struct kl_gather *list;
    struct kl_object *frozen; // referenced, when value belongs to it; released by kl_req_fini
    struct kl_custom_family *family; // referenced: keeps info.res when it is no built-in row
    struct kl_str *warnings;         // texts of Warning headers
    size_t nwarnings;
    struct kl_audit_note *notes; // in the order they came; kl_req_note

    // Whose `done` it was when it was dispatched: stages put their own before it, and a run that
    // begins again begins with this one.
    void (*asked_done)(struct kl_req *);
    size_t asked_nwarnings; // what it was warned of before it ran, which a second run leaves alone
    void (*done)(struct kl_req *); // exactly once, maybe from within the function that started it
    void *arg;
    bool canceled;   // the caller went away: the result is not wanted
    bool dispatched; // authorised, and handed to what answers it
    bool confirmed;  // what is in memory is as new as the request: kl_req_confirm
    bool overdue;    // it was answered that it took too long: deadline.h

    struct kl_fair_ticket *ticket; // its seats (fairness/fairness.h); NULL: not asked
    int inflight;                  // likewise without priorities: 1 reads, 2 writes
    struct kl_audit_event *audit;  // what is noted of it (audit/audit.h); NULL: nothing

    void *work;               // the stage's own state
    struct kl_bytes *kept[4]; // referenced until kl_req_fini; kl_req_keep_bytes
    size_t nkept;
    struct kl_strict *patch_strict;   // what strict reading of a patch found, or NULL
    struct kl_write *write;           // the running write machine, for strategies that add to it
    struct kl_conversion_memo *memos; // what webhooks converted on the way (crd/convert.h)
    void (*memo_then)(void *arg);     // waits for those that have not answered
    void *memo_arg;
};

void kl_req_fini(struct kl_req *r); // user, kv, frozen, kept; not the arena
// Takes over a reference to what a transaction borrows.
void kl_req_keep_bytes(struct kl_req *r, struct kl_bytes *b);

// ---- ends of a request. Each sets the result and calls done; `return kl_fail_...(r, ...)`.
void kl_req_done(struct kl_req *r);
void kl_req_ok_kv(struct kl_req *r, int http, struct kl_kv *kv); // takes a reference of its own
void kl_req_ok_value(struct kl_req *r, int http, const struct kl_type *type,
                     const char *api_version, const char *kind, struct kl_value v);
// metav1.Status with status Success and details of the request's resource, as DELETE answers.
void kl_req_ok_status(struct kl_req *r, struct kl_str uid);
// A Status that says Success and nothing else, as binding and eviction answer.
void kl_req_ok_success(struct kl_req *r, int http);
void kl_req_fail(struct kl_req *r); // r->fail is filled already

// True: `then` comes, now or later, once what is in memory is at least as new as the request is
// (code negative and r->fail set: that cannot be said). False: it is already, go on.
bool kl_req_confirm(struct kl_req *r, void (*then)(void *arg, int code), void *arg);
// True: the failed request runs again on confirmed state.
bool kl_req_retry(struct kl_req *r);
// A dispatched request runs again from there: nothing of its first run is left.
void kl_req_rerun(struct kl_req *r);

// Adds the text (borrowed) of a Warning header.
void kl_req_warn(struct kl_req *r, struct kl_str text);
// Adds an annotation for the audit log (texts are borrowed). A key that is there keeps its value.
void kl_req_note(struct kl_req *r, struct kl_str key, struct kl_str value, bool at_request_level);

// ---- filling r->fail with upstream's wording (apimachinery api/errors); they do not call done.
struct kl_fail *kl_fail_set(struct kl_req *r, int http, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
struct kl_fail *kl_fail_not_found(struct kl_req *r); // pods "x" not found
struct kl_fail *kl_fail_not_found_of(struct kl_req *r, struct kl_str group, struct kl_str plural,
                                     struct kl_str name);
struct kl_fail *kl_fail_exists(struct kl_req *r, struct kl_str name);
struct kl_fail *kl_fail_conflict(struct kl_req *r, struct kl_str name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
struct kl_fail *kl_fail_bad(struct kl_req *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
struct kl_fail *kl_fail_err(struct kl_req *r, const struct kl_error *err); // by its code
struct kl_fail *kl_fail_method(struct kl_req *r);
// 406: an object was asked for where a list is the answer (`list`), or the other way round.
struct kl_fail *kl_fail_form(struct kl_req *r, bool list);
// Go's name of the type that upstream works with: "*core.Pod", "*core.PodList" with `list`. In the
// arena.
struct kl_str kl_req_go_type(struct kl_req *r, bool list);
struct kl_fail *kl_fail_internal(struct kl_req *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
struct kl_fail *kl_fail_oom(struct kl_req *r);
// NewTooLargeResourceVersionError
struct kl_fail *kl_fail_too_large(struct kl_req *r, kl_rev asked);

// A list of field errors (field.ErrorList) gathered by validation; kl_fail_invalid makes the 422:
// `Pod "x" is invalid: [spec.a: Required value, ...]`.
struct kl_field_errors {
    struct kl_arena *arena;
    struct kl_cause *causes;
    size_t n, cap;
};
// type: one of FieldValueRequired, FieldValueInvalid, FieldValueDuplicate, FieldValueForbidden,
// FieldValueNotSupported, FieldValueTooLong, FieldValueTooMany, FieldValueNotFound,
// FieldValueTypeInvalid.
void kl_field_error(struct kl_field_errors *e, const char *type, struct kl_str field,
                    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
// Wording of field.Error: "Required value: detail", `Invalid value: "v": detail`, ...
void kl_field_required(struct kl_field_errors *e, struct kl_str field, const char *detail);
void kl_field_invalid(struct kl_field_errors *e, struct kl_str field, struct kl_str value,
                      const char *detail); // value is quoted
void kl_field_forbidden(struct kl_field_errors *e, struct kl_str field, const char *detail);
void kl_field_unsupported(struct kl_field_errors *e, struct kl_str field, struct kl_str value,
                          const char *const *supported); // NULL-ended, sorted for the message
void kl_field_duplicate(struct kl_field_errors *e, struct kl_str field, struct kl_str value);
// field.ErrorList.ToAggregate, for what is no request: 0 when there is none, else KL_EINVALID.
int kl_field_aggregate(const struct kl_field_errors *e, struct kl_error *err);
struct kl_fail *kl_fail_invalid(struct kl_req *r, struct kl_str kind, struct kl_str group,
                                struct kl_str name, const struct kl_field_errors *e);

// The Status of a failure as a draft of metav1.Status in the arena.
struct kl_value kl_fail_status(struct kl_arena *a, const struct kl_fail *f);
