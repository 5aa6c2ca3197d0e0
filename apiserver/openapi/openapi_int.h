// SPDX-License-Identifier: Apache-2.0
// What the writers of OpenAPI documents share: paths and operations as data (ops.c), their text in
// either version (paths.c), schemas (schema.c, custom.c), the document piece by piece (document.c),
// and the protobuf form (proto.c).
#pragma once
#include "apiserver/aggregate/upgrade.h"
#include "apiserver/openapi/openapi.h"
#include "base/buf.h"

#define KL_OA_META "io.k8s.apimachinery.pkg.apis.meta.v1."

// ---- ops.c: the operations of a resource, as apiserver's endpoints/installer.go registers them.

// Parameters in the order of their names; those of a path and of connections too. What is said of
// some depends on where they stand.
enum kl_oa_param {
    KL_OA_ALLOW_BOOKMARKS,
    KL_OA_COMMAND,
    KL_OA_CONTAINER_ATTACH,
    KL_OA_CONTAINER_EXEC,
    KL_OA_CONTAINER_LOG,
    KL_OA_CONTINUE,
    KL_OA_DRY_RUN,
    KL_OA_FIELD_MANAGER,
    KL_OA_FIELD_MANAGER_PATCH,
    KL_OA_FIELD_SELECTOR,
    KL_OA_FIELD_VALIDATION,
    KL_OA_FOLLOW,
    KL_OA_FORCE,
    KL_OA_GRACE,
    KL_OA_IGNORE_READ_ERROR,
    KL_OA_INSECURE_BACKEND,
    KL_OA_LABEL_SELECTOR,
    KL_OA_LIMIT,
    KL_OA_LIMIT_BYTES,
    KL_OA_NAME,
    KL_OA_NAMESPACE,
    KL_OA_ORPHAN,
    KL_OA_PATH,
    KL_OA_PATH_OF_POD,
    KL_OA_PATH_OF_SERVICE,
    KL_OA_PATH_OF_NODE,
    KL_OA_PORTS,
    KL_OA_PRETTY,
    KL_OA_PREVIOUS,
    KL_OA_PROPAGATION,
    KL_OA_RV,
    KL_OA_RV_MATCH,
    KL_OA_SEND_INITIAL,
    KL_OA_SHARD_SELECTOR,
    KL_OA_SINCE,
    KL_OA_STDERR_ATTACH,
    KL_OA_STDERR_EXEC,
    KL_OA_STDIN_ATTACH,
    KL_OA_STDIN_EXEC,
    KL_OA_STDOUT_ATTACH,
    KL_OA_STDOUT_EXEC,
    KL_OA_STREAM,
    KL_OA_TAIL,
    KL_OA_TIMEOUT,
    KL_OA_TIMESTAMPS,
    KL_OA_TTY_ATTACH,
    KL_OA_TTY_EXEC,
    KL_OA_WATCH,
    KL_OA_NPARAMS
};
struct kl_oa_param_info {
    const char *name;
    const char *shared; // its name among a version 2 document's parameters; NULL: not there
    const char *type;
    bool in_path;
    const char *text; // NULL: "name of the KIND"
};
extern const struct kl_oa_param_info kl_oa_params[KL_OA_NPARAMS];

enum kl_oa_media {
    KL_OA_MEDIA_OBJECT,    // what objects come in
    KL_OA_MEDIA_WATCHABLE, // and streams of them
    KL_OA_MEDIA_CUSTOM,    // of custom resources: no protobuf, no strategic merge
    KL_OA_MEDIA_LOG,       // and plain text
    KL_OA_MEDIA_ANY,
    KL_OA_MEDIA_JSON,
    KL_OA_MEDIA_DISCOVERY, // "consumes" what it produces
    KL_OA_MEDIA_JWKS,
    KL_OA_MEDIA_PLAIN_JSON,
    KL_OA_MEDIA_NONE,
};
enum kl_oa_body { KL_OA_BODY_NONE, KL_OA_BODY_OBJECT, KL_OA_BODY_PATCH, KL_OA_BODY_DELETE };
enum { KL_OA_CREATED = 1, KL_OA_ACCEPTED = 2 }; // answers beside 200

struct kl_oa_op {
    const char *method, *action; // action NULL: no resource
    uint64_t params;             // bits of enum kl_oa_param
    enum kl_oa_media media;
    enum kl_oa_body body;
    unsigned answers;
    const char *group, *version, *kind; // x-kubernetes-group-version-kind
    struct kl_str answer;               // definition name; p NULL: none; "": a string
    struct kl_str object;               // definition name of the body
    struct kl_str id, doc, tag;
};

enum { KL_OA_MAX_OPS = 8 };
struct kl_oa_path {
    struct kl_str path;
    struct kl_oa_op ops[KL_OA_MAX_OPS];
    size_t nops;
};

// A row as documents see it. Names of definitions of custom kinds are made up from group and kind.
struct kl_oa_row {
    const struct kl_resource *res;
    struct kl_str object, list; // definition names
    bool custom;
};
struct kl_oa_row kl_oa_row_of(struct kl_arena *a, const struct kl_resource *res);
// The definition name of a custom kind: com.example.v1.Widget.
struct kl_str kl_oa_custom_name(struct kl_arena *a, const char *group, const char *version,
                                const char *kind);
// Path number `at` of the resource; false when there are no more. ret->nops may be 0: none there.
bool kl_oa_resource_path(struct kl_arena *a, const struct kl_oa_row *row, size_t at,
                         struct kl_oa_path *ret);
// The path that lists what a group, or a group's version (NULL: the group), has. Group NULL: /apis;
// "" is the core group.
void kl_oa_group_path(struct kl_arena *a, const char *group, const char *version,
                      struct kl_oa_path *ret);
// /version and the like; false when there are no more.
bool kl_oa_other_path(size_t at, struct kl_oa_path *ret);

// ---- schema.c and custom.c

// What a document refers to and still has to write.
struct kl_oa_types {
    const struct kl_apiserver *srv; // whose versions a kind of every group has; NULL: the default
    uint16_t *queue;                // indexes in kl_types; n met, `done` written
    uint8_t *seen;
    size_t n, done;
};
int kl_oa_types_init(struct kl_oa_types *t, const struct kl_apiserver *srv);
void kl_oa_types_fini(struct kl_oa_types *t);
void kl_oa_want(struct kl_oa_types *t, const struct kl_type *type);
void kl_oa_want_name(struct kl_oa_types *t, struct kl_str name); // unknown ones go unheard

// ---- texts.c: what upstream says of its types and fields. The words are kept compressed and
// unpacked for as long as a document of the loop is being written.
struct kl_oa_texts;
// The loop's, one more reference. NULL: no memory.
struct kl_oa_texts *kl_oa_texts_get(struct kl_api_loop *al);
void kl_oa_texts_put(struct kl_oa_texts *t); // accepts NULL
// Of a type, or of its field number `field` when that is not negative, as it stands between the
// quotes of a JSON string; empty: nothing is said.
struct kl_str kl_oa_text(const struct kl_oa_texts *t, const struct kl_type *type, int field);

struct kl_oa_doc; // document.c
// The place definitions are at: "#/components/schemas/" or "#/definitions/".
const char *kl_oa_place(bool v2);
// One definition, `"name":{...}`; types that it refers to are wanted.
void kl_oa_put_schema(struct kl_buf *b, struct kl_oa_types *t, const struct kl_oa_texts *texts,
                      const struct kl_type *type, bool v2, struct kl_str group,
                      struct kl_str version);
// The definitions of a custom kind and its list.
int kl_oa_put_custom(struct kl_buf *b, struct kl_oa_types *t, struct kl_arena *a,
                     const struct kl_openapi_source *src, const struct kl_openapi_custom *c,
                     bool list, bool v2);

// ---- paths.c
// `"path":{...}`; definitions that it refers to are wanted.
void kl_oa_put_path(struct kl_buf *b, struct kl_oa_types *t, const struct kl_oa_path *p, bool v2);
// The members of "parameters" of a version 2 document.
void kl_oa_put_shared_params(struct kl_buf *b);
bool kl_oa_put_shared_param(struct kl_buf *b, struct kl_str name); // false: there is none

// ---- merge.c: what aggregated servers add to version 2.
struct kl_oa_merge;
// The documents that there are now. NULL: no memory.
struct kl_oa_merge *kl_oa_merge_new(struct kl_req *r);
// Of these, in this order; takes the references.
struct kl_oa_merge *kl_oa_merge_of(struct kl_remote_doc *const *docs, size_t n);
void kl_oa_merge_free(struct kl_oa_merge *m);            // accepts NULL
uint64_t kl_oa_merge_stamp(const struct kl_oa_merge *m); // 0: there are none
// What a document has before others are merged into it.
struct kl_oa_own {
    struct kl_oa_types *types; // built-in definitions that others have too are wanted; NULL: none
    const struct kl_oa_texts *texts;
    const struct kl_openapi_source *src;
    const struct kl_openapi_custom *custom;
    size_t ncustom;
    const struct kl_apiserver *srv; // NULL: what is served by default
};
// The i-th version of a group in its documents; NULL: no more. srv as above.
const char *kl_oa_version(const struct kl_apiserver *srv, const struct kl_group *g, size_t i);
// Which of their definitions and parameters are there already, or need another name. Before the
// first of the following.
int kl_oa_merge_plan(struct kl_oa_merge *m, const struct kl_oa_own *own);
// Appends the next member of a part; parts come one after the other. 1: a member, 0: no more,
// negative: failed. *ret_name is in the arena.
int kl_oa_merge_next(struct kl_oa_merge *m, enum kl_remote_part part, struct kl_arena *a,
                     struct kl_buf *out, struct kl_str *ret_name);
// Adds to a definition, `"name":{...}`, the kinds that other servers registered it as.
int kl_oa_merge_kinds(struct kl_oa_merge *m, struct kl_arena *a, struct kl_str name,
                      struct kl_buf *text);

// ---- document.c: a document in pieces.
enum kl_oa_what {
    KL_OA_V2,     // everything
    KL_OA_V3,     // group and version
    KL_OA_GROUP,  // /apis/GROUP
    KL_OA_ROOT,   // /api or /apis
    KL_OA_OTHERS, // /version and the like, one of them: `other`
};
struct kl_oa_ask {
    enum kl_oa_what what;
    struct kl_str group, version; // "" the core group
    size_t other;
    bool protobuf;
};
// NULL: no memory. `a` lives as long as the document.
struct kl_oa_doc *kl_oa_doc_new(struct kl_api_call *c, const struct kl_oa_ask *ask);
// Appends the next piece; 1: there is more, 0: that was all, negative: failed.
int kl_oa_doc_next(struct kl_oa_doc *d, struct kl_buf *out);
void kl_oa_doc_free(struct kl_oa_doc *d);
bool kl_oa_doc_is_empty(const struct kl_oa_doc *d);  // nothing is served there
uint64_t kl_oa_doc_stamp(const struct kl_oa_doc *d); // of what aggregated servers add

// ---- upgraded.c: a version 3 document that was made of an aggregated server's version 2.
struct kl_oa_upgraded;
// Takes the reference. NULL: no memory.
struct kl_oa_upgraded *kl_oa_upgraded_new(struct kl_upgraded *u, bool protobuf);
// As kl_oa_doc_next.
int kl_oa_upgraded_next(struct kl_oa_upgraded *x, struct kl_buf *out);
void kl_oa_upgraded_free(struct kl_oa_upgraded *x); // accepts NULL

// ---- proto.c: JSON text of a document, or of a part of one, as gnostic's messages.
enum kl_oa_message { KL_OA_MSG_V2, KL_OA_MSG_V3 };
// Appends the fields of a Document message that `json`, an object with members of a document, says.
// Pieces may follow one another: messages that come twice are merged by whoever reads them.
int kl_oa_proto(struct kl_buf *out, enum kl_oa_message m, struct kl_str json);
