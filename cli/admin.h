// SPDX-License-Identifier: Apache-2.0
// DATA/server/admin.sock: commands on a store that a server holds open. HTTP over a Unix socket
// (mode 0600; the peer must be the same user, or root), on a loop of its own; what takes long runs
// in threads of its own. An error is {"code": kl_err, "message": "..."}.
//
//   GET  /v1/status                                  cli/status.h
//   GET  /v1/digest                                  {"rev": N, "digest": "hex"}
//   GET  /v1/rows?base=N&through=N&follow=true       records (store/transfer/record.h)
//   POST /v1/fence?ms=N&why=TEXT                     {"rev": N}: no writes for so long; following
//                                                    streams end there (store/transfer/fence.h)
//   PUT  /v1/fence?rev=N                             renewed
//   PUT  /v1/fence?rev=N&why=TEXT                    kept for good
//   DELETE /v1/fence?rev=N                           taken away; 0: whoever's it is
//   POST /v1/snapshot?dir=PATH&name=NAME             the snapshot that was taken
//   GET, POST, DELETE /v1/revoked?why=KIND/NAME      cli/revoke.h
//   GET  /v1/secrets-encrypt                         state of the encryption of Secrets
//   POST /v1/secrets-encrypt?name=enable             likewise disable, rotate-keys: the state then
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "store/transfer/copy.h"
#include "store/transfer/source.h"

struct kl_admin;
struct kl_encryption;

struct kl_admin_options {
    struct kl_store *store;
    struct kl_encryption *encryption; // or NULL
    const char *data_dir, *node;
    const char *endpoint;     // of the store, without password
    const char *snapshot_dir; // for the newest one in /v1/status, and where they go by default
};

// One in a process for a data directory. KL_EEXISTS: another server listens there.
int kl_admin_start(const struct kl_admin_options *o, struct kl_admin **ret_a, struct kl_error *err);
void kl_admin_stop(struct kl_admin *a); // blocks; before the store stops; accepts NULL

// ---- the commands' side; blocks, not on a loop

// Whether a server answers there.
bool kl_admin_is_served(const char *data_dir);
// The answer's body goes to *ret. What the server says went wrong becomes *err.
int kl_admin_call(const char *data_dir, const char *method, const char *target, struct kl_buf *ret,
                  struct kl_error *err);
// Text as a part of a target's query.
void kl_admin_escape(struct kl_buf *b, const char *text);
int kl_admin_source(const char *data_dir, const struct kl_source_from *from,
                    struct kl_source **ret_s, struct kl_error *err);
// "name": number or text out of an answer, which is one flat object.
bool kl_admin_number(const struct kl_buf *answer, const char *name, int64_t *ret);
bool kl_admin_text(const struct kl_buf *answer, const char *name, char *ret, size_t n);
