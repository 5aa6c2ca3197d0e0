// SPDX-License-Identifier: Apache-2.0
// kinglet status: asks the running server, or opens the store for reading when nobody holds it.
#include "cli/status.h"
#include "cli/admin.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/store_cmd.h"
#include "base/clock.h"
#include "base/log.h"
#include "object/json.h"
#include "store/raft/members.h"
#include "store/sql/members.h"
#include "store/transfer/access.h"
#include "store/transfer/fence.h"
#include "store/transfer/snapshot.h"
#include <stdio.h>
#include <stdlib.h>

// ---- what there is to tell ----

struct live {
    int64_t bytes, lag;
    char fence[400]; // why it takes no writes
};

// What the current keys take as they are; of values that are not in memory only their number.
static int measure(struct kl_store *s, struct live *ret, struct kl_error *err)
{
    struct kl_access a;
    struct kl_view *v;
    struct kl_iter it;
    kl_rev before = 0, head = 0;
    int r = kl_access_open(&a, s, err);
    if (r)
        return r;
    r = kl_access_view(&a, &v, err);
    if (r) {
        kl_access_close(&a);
        return r;
    }
    before = kl_view_rev(v);
    kl_iter_init(&it, v, KL_STR("\0"), KL_RANGE_TO_LAST);
    for (const struct kl_kv *kv; (kv = kl_iter_next(&it));)
        ret->bytes += (int64_t)(kv->key_len + kl_kv_value(kv).n);
    kl_view_unref(v);
    if (kl_store_is_shared(s) && !kl_access_head(&a, &head, NULL) && head > before)
        ret->lag = head - before;
    r = kl_fence_reason(&a, ret->fence, sizeof(ret->fence), err);
    kl_access_close(&a);
    return r;
}

static void write_snapshot(struct kl_buf *out, const char *dir)
{
    struct kl_snapshot_info *all = NULL;
    size_t n = 0;
    if (!dir || kl_snapshot_list(dir, &all, &n, NULL) || !n) {
        kl_buf_puts(out, KL_STR("null"));
        return;
    }
    kl_buf_puts(out, KL_STR("{\"name\":"));
    kl_json_write_string(out, kl_str(all[0].name));
    kl_buf_printf(out, ",\"revision\":%lld,\"bytes\":%lld,\"ageSeconds\":%lld}",
                  (long long)all[0].rev, (long long)all[0].bytes,
                  (long long)((kl_wall_ms() - all[0].wall_ms) / 1000));
    free(all);
}

static void put_number(struct kl_buf *out, const char *name, int64_t v)
{
    kl_buf_printf(out, ",\"%s\":%lld", name, (long long)v);
}

static void put_text(struct kl_buf *out, const char *name, const char *v)
{
    kl_buf_printf(out, ",\"%s\":", name);
    kl_json_write_string(out, kl_str(v));
}

static void write_member(struct kl_buf *out, bool first, uint64_t id, const char *address,
                         const char *role, bool self, bool connected)
{
    kl_buf_printf(out, "%s{\"id\":\"%016llx\"", first ? "" : ",", (unsigned long long)id);
    put_text(out, "address", address);
    put_text(out, "role", role);
    kl_buf_printf(out, ",\"self\":%s,\"connected\":%s}", self ? "true" : "false",
                  connected ? "true" : "false");
}

static const char *raft_role(const struct kl_raft_member *m)
{
    return m->leader ? "leader" : m->role == KL_RAFT_VOTER ? "follower" : "learner";
}

static const char *sql_role(const struct kl_sql_status *st, const struct kl_sql_member *m)
{
    if (st->leader)
        return m->leader ? "batch leader" : "follower";
    return st->nmembers > 1 ? "equal" : "single"; // each commits by itself
}

// This server's role, and all servers of the store.
static void write_members(struct kl_buf *out, struct kl_store *s)
{
    struct kl_raft_status *raft = calloc(1, sizeof(*raft));
    struct kl_sql_status *sql = calloc(1, sizeof(*sql));
    const char *role = "single";
    if (raft && !kl_raft_status(s, raft, NULL)) {
        for (size_t i = 0; i < raft->nmembers; i++)
            role = raft->members[i].self ? raft_role(&raft->members[i]) : role;
    } else if (raft) {
        raft->nmembers = 0;
    }
    if (sql && !kl_sql_status(s, sql, NULL))
        role = sql_role(sql, &sql->members[0]);
    else if (sql)
        sql->nmembers = 0;
    put_text(out, "role", role);
    kl_buf_puts(out, KL_STR(",\"members\":["));
    for (size_t i = 0; raft && i < raft->nmembers; i++) {
        const struct kl_raft_member *m = &raft->members[i];
        write_member(out, i == 0, m->id, m->address, raft_role(m), m->self, m->connected);
    }
    for (size_t i = 0; sql && i < sql->nmembers; i++) {
        const struct kl_sql_member *m = &sql->members[i];
        write_member(out, i == 0, m->id, m->address, sql_role(sql, m), m->self, m->connected);
    }
    kl_buf_puts(out, KL_STR("]"));
    free(raft);
    free(sql);
}

int kl_status_write(struct kl_buf *out, struct kl_store *s, const struct kl_status_about *about,
                    struct kl_error *err)
{
    struct kl_store_status st;
    struct live live = {0};
    int r = measure(s, &live, err);
    if (r)
        return r;
    kl_store_status(s, &st);
    int64_t used = st.db_used_bytes > live.bytes ? st.db_used_bytes : live.bytes;
    kl_buf_printf(out, "{\"backend\":\"%s\"", st.backend);
    put_text(out, "endpoint", about->endpoint ? about->endpoint : "");
    put_text(out, "node", about->node ? about->node : "");
    kl_buf_printf(out, ",\"served\":%s,\"clusterId\":\"%016llx\",\"memberId\":\"%016llx\"",
                  about->served ? "true" : "false", (unsigned long long)st.cluster_id,
                  (unsigned long long)st.member_id);
    write_members(out, s);
    put_number(out, "revision", st.rev);
    put_number(out, "compactedTo", st.compact_rev);
    put_number(out, "rowsCompactedTo", st.physical_rev);
    put_number(out, "compactionLagRevisions", st.compact_rev - st.physical_rev);
    put_number(out, "keys", st.keys);
    put_number(out, "leases", st.leases);
    put_number(out, "watchers", st.watchers);
    put_number(out, "sizeBytes", st.db_bytes);
    put_number(out, "usedBytes", st.db_used_bytes);
    put_number(out, "liveBytes", live.bytes);
    put_number(out, "deadBytes", used - live.bytes);
    put_number(out, "walBytes", st.wal_bytes);
    put_number(out, "lagRevisions", live.lag);
    put_number(out, "queued", st.queued);
    put_number(out, "transactions", st.txns);
    put_number(out, "batches", st.batches);
    kl_buf_printf(out, ",\"diskFull\":%s", st.disk_full ? "true" : "false");
    put_text(out, "fence", live.fence);
    put_text(out, "lastError", st.last_error ? st.last_error_text : "");
    kl_buf_puts(out, KL_STR(",\"lastSnapshot\":"));
    write_snapshot(out, about->snapshot_dir);
    kl_buf_puts(out, KL_STR("}\n"));
    return out->err ? kl_error_set(err, out->err, "status: %s", kl_err_text(out->err)) : 0;
}

// ---- the command ----

struct options {
    const char *data_dir, *datastore, *output, *snapshot_dir;
    bool help;
};

static const struct kl_flag flags[] = {
    {"data-dir", 'd', "KINGLET_DATA_DIR", KL_FLAG_STRING, offsetof(struct options, data_dir), "DIR",
     NULL, "data", "Data directory of the server"},
    {"datastore-endpoint", 0, "KINGLET_DATASTORE_ENDPOINT", KL_FLAG_STRING,
     offsetof(struct options, datastore), "URL", NULL, "db",
     "Datastore when no server runs (sqlite in the data directory)"},
    {"snapshot-dir", 0, "KINGLET_SNAPSHOT_DIR", KL_FLAG_STRING,
     offsetof(struct options, snapshot_dir), "DIR", NULL, "db", "Where snapshots are"},
    {"output", 'o', NULL, KL_FLAG_STRING, offsetof(struct options, output), "FORMAT", "text",
     "output", "text or json"},
    {"help", 'h', NULL, KL_FLAG_BOOL, offsetof(struct options, help), NULL, "false", "help",
     "This text"},
};

static int64_t number(const struct kl_value *v, const char *name)
{
    const struct kl_value *n = kl_map_value(v, kl_str(name));
    return n && n->kind == KL_INT ? n->i : 0;
}

static struct kl_str text(const struct kl_value *v, const char *name)
{
    const struct kl_value *n = kl_map_value(v, kl_str(name));
    return n && n->kind == KL_STRING ? (struct kl_str){n->s, n->n} : KL_STR("");
}

static void line_bytes(const char *name, int64_t bytes)
{
    char size[32];
    printf("%-15s %s\n", name, kl_size_text(bytes, size));
}

static bool is_true(const struct kl_value *v, const char *name)
{
    const struct kl_value *b = kl_map_value(v, kl_str(name));
    return b && b->kind == KL_BOOL && b->b;
}

static void print_members(const struct kl_value *v)
{
    const struct kl_value *all = kl_map_value(v, KL_STR("members"));
    for (uint32_t i = 0; all && all->kind == KL_ARRAY && i < all->n; i++) {
        const struct kl_value *m = &all->items[i];
        struct kl_str address = text(m, "address");
        printf("%-15s %.*s %.*s %.*s%s\n", i ? "" : "members:", KL_PRI(text(m, "id")),
               KL_PRI(text(m, "role")), KL_PRI(address.n ? address : KL_STR("-")),
               is_true(m, "self")        ? " (this server)"
               : is_true(m, "connected") ? ""
                                         : " (not connected)");
    }
}

static void print_text(const struct kl_value *v)
{
    struct kl_str error = text(v, "lastError"), endpoint = text(v, "endpoint");
    struct kl_str fence = text(v, "fence");
    const struct kl_value *snapshot = kl_map_value(v, KL_STR("lastSnapshot"));
    const struct kl_value *served = kl_map_value(v, KL_STR("served"));
    printf("%-15s %.*s\n", "back end:", KL_PRI(text(v, "backend")));
    if (endpoint.n)
        printf("%-15s %.*s\n", "datastore:", KL_PRI(endpoint));
    printf("%-15s %s\n", "server:", served && served->b ? "running" : "not running");
    printf("%-15s %.*s\n", "role:", KL_PRI(text(v, "role")));
    print_members(v);
    printf("%-15s %lld\n", "revision:", (long long)number(v, "revision"));
    printf("%-15s %lld (rows: %lld)\n", "compacted to:", (long long)number(v, "compactedTo"),
           (long long)number(v, "rowsCompactedTo"));
    printf("%-15s %lld\n", "keys:", (long long)number(v, "keys"));
    printf("%-15s %lld\n", "leases:", (long long)number(v, "leases"));
    line_bytes("size:", number(v, "sizeBytes"));
    line_bytes("live:", number(v, "liveBytes"));
    line_bytes("dead:", number(v, "deadBytes"));
    printf("%-15s %lld revisions\n", "lag:", (long long)number(v, "lagRevisions"));
    if (snapshot && snapshot->kind == KL_MAP)
        printf("%-15s %.*s, revision %lld, %lld s ago\n",
               "last snapshot:", KL_PRI(text(snapshot, "name")),
               (long long)number(snapshot, "revision"), (long long)number(snapshot, "ageSeconds"));
    else
        printf("%-15s none\n", "last snapshot:");
    if (fence.n)
        printf("%-15s none: %.*s\n", "writes:", KL_PRI(fence));
    if (error.n)
        printf("%-15s %.*s\n", "last error:", KL_PRI(error));
}

static int print(const struct kl_buf *json, bool as_json)
{
    struct kl_arena a;
    struct kl_value v = {0};
    struct kl_error err = {0};
    if (as_json) {
        printf("%.*s", (int)json->n, json->p);
        return 0;
    }
    kl_arena_init(&a, 4 << 20);
    int r = kl_json_parse(&a, kl_buf_str(json), NULL, &v, &err);
    if (r)
        fprintf(stderr, "kinglet: %s\n", err.msg);
    else
        print_text(&v);
    kl_arena_fini(&a);
    return r ? 1 : 0;
}

static int ask(const struct options *o, struct kl_arena *a, struct kl_buf *out,
               struct kl_error *err)
{
    struct kl_store *s;
    const char *data_dir = o->data_dir ? o->data_dir : kl_default_data_dir(a);
    if (kl_admin_is_served(data_dir) && !o->datastore)
        return kl_admin_call(data_dir, "GET", "/v1/status", out, err);
    const char *url = kl_store_cmd_url(a, o->datastore, data_dir);
    int r = kl_store_cmd_open(url, NULL, &s, err);
    if (r)
        return r;
    char name[512];
    struct kl_status_about about = {.endpoint = kl_endpoint_redact(url, name, sizeof(name)),
                                    .snapshot_dir = kl_snapshot_dir(a, o->snapshot_dir, data_dir)};
    r = kl_status_write(out, s, &about, err);
    kl_store_stop(s);
    return r;
}

int kl_cmd_status(int argc, char **argv)
{
    struct options o = {0};
    struct kl_arena a;
    struct kl_buf out;
    struct kl_error err = {0};
    kl_arena_init(&a, 1 << 20);
    kl_buf_init(&out, 1 << 20);
    int rc = 2;
    kl_log_setup(KL_LOG_WARN, false);
    if (kl_flags_parse(flags, KL_COUNT(flags), &o, &a, argc, argv, NULL, &err) ||
        (!o.help && strcmp(o.output, "text") && strcmp(o.output, "json"))) {
        fprintf(stderr, "kinglet: %s\n", err.code ? err.msg : "--output is text or json");
    } else if (o.help) {
        printf("USAGE:\n   kinglet status [flags]\n\nFLAGS:\n");
        kl_flags_help(flags, KL_COUNT(flags));
        rc = 0;
    } else if (ask(&o, &a, &out, &err)) {
        fprintf(stderr, "kinglet: %s\n", err.msg);
        rc = 1;
    } else {
        rc = print(&out, !strcmp(o.output, "json"));
    }
    kl_buf_fini(&out);
    kl_arena_fini(&a);
    return rc;
}
