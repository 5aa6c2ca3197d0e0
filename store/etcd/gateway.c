// SPDX-License-Identifier: Apache-2.0
// etcd's JSON gateway (the paths of rpc.proto's google.api.http options, the manners of
// grpc-gateway v2): POST /v3/kv/range is a call of /etcdserverpb.KV/Range whose messages are JSON.
// A call goes through the same service; what it sends becomes JSON piece by piece as the connection
// takes it.
//
//   body ─ kl_json_edge ─ kl_proto_from_json ─► service ─ chunks ─ kl_proto_json_put ─► answer
//
// The first message, or the end without one, decides the HTTP status.
#include "store/etcd/etcd_int.h"
#include "net/proto_json.h"

enum {
    PREFIX = 5,
    CHUNKS = 16,
    PIECE = 48 * 1024, // of the wire at once, and when an answer's piece is big enough
    MAX_OUT = 16 * PIECE,
    SLACK = 64 * 1024,
};
enum streaming { UNARY, SERVER_STREAM, STREAM };

static const struct route {
    const char *path; // behind /v3/
    const char *method;
    enum streaming streaming;
} routes[] = {
    {"kv/range", "/etcdserverpb.KV/Range", UNARY},
    {"kv/put", "/etcdserverpb.KV/Put", UNARY},
    {"kv/deleterange", "/etcdserverpb.KV/DeleteRange", UNARY},
    {"kv/txn", "/etcdserverpb.KV/Txn", UNARY},
    {"kv/compaction", "/etcdserverpb.KV/Compact", UNARY},
    {"watch", "/etcdserverpb.Watch/Watch", STREAM},
    {"lease/grant", "/etcdserverpb.Lease/LeaseGrant", UNARY},
    {"lease/revoke", "/etcdserverpb.Lease/LeaseRevoke", UNARY},
    {"kv/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke", UNARY},
    {"lease/keepalive", "/etcdserverpb.Lease/LeaseKeepAlive", STREAM},
    {"lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive", UNARY},
    {"kv/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive", UNARY},
    {"lease/leases", "/etcdserverpb.Lease/LeaseLeases", UNARY},
    {"kv/lease/leases", "/etcdserverpb.Lease/LeaseLeases", UNARY},
    {"cluster/member/add", "/etcdserverpb.Cluster/MemberAdd", UNARY},
    {"cluster/member/remove", "/etcdserverpb.Cluster/MemberRemove", UNARY},
    {"cluster/member/update", "/etcdserverpb.Cluster/MemberUpdate", UNARY},
    {"cluster/member/list", "/etcdserverpb.Cluster/MemberList", UNARY},
    {"cluster/member/promote", "/etcdserverpb.Cluster/MemberPromote", UNARY},
    {"maintenance/alarm", "/etcdserverpb.Maintenance/Alarm", UNARY},
    {"maintenance/status", "/etcdserverpb.Maintenance/Status", UNARY},
    {"maintenance/defragment", "/etcdserverpb.Maintenance/Defragment", UNARY},
    {"maintenance/hash", "/etcdserverpb.Maintenance/Hash", UNARY},
    {"maintenance/hashkv", "/etcdserverpb.Maintenance/HashKV", UNARY},
    {"maintenance/snapshot", "/etcdserverpb.Maintenance/Snapshot", SERVER_STREAM},
    {"maintenance/transfer-leadership", "/etcdserverpb.Maintenance/MoveLeader", UNARY},
    {"maintenance/downgrade", "/etcdserverpb.Maintenance/Downgrade", UNARY},
    {"auth/enable", "/etcdserverpb.Auth/AuthEnable", UNARY},
    {"auth/disable", "/etcdserverpb.Auth/AuthDisable", UNARY},
    {"auth/status", "/etcdserverpb.Auth/AuthStatus", UNARY},
    {"auth/authenticate", "/etcdserverpb.Auth/Authenticate", UNARY},
    {"auth/user/add", "/etcdserverpb.Auth/UserAdd", UNARY},
    {"auth/user/get", "/etcdserverpb.Auth/UserGet", UNARY},
    {"auth/user/list", "/etcdserverpb.Auth/UserList", UNARY},
    {"auth/user/delete", "/etcdserverpb.Auth/UserDelete", UNARY},
    {"auth/user/changepw", "/etcdserverpb.Auth/UserChangePassword", UNARY},
    {"auth/user/grant", "/etcdserverpb.Auth/UserGrantRole", UNARY},
    {"auth/user/revoke", "/etcdserverpb.Auth/UserRevokeRole", UNARY},
    {"auth/role/add", "/etcdserverpb.Auth/RoleAdd", UNARY},
    {"auth/role/get", "/etcdserverpb.Auth/RoleGet", UNARY},
    {"auth/role/list", "/etcdserverpb.Auth/RoleList", UNARY},
    {"auth/role/delete", "/etcdserverpb.Auth/RoleDelete", UNARY},
    {"auth/role/grant", "/etcdserverpb.Auth/RoleGrantPermission", UNARY},
    {"auth/role/revoke", "/etcdserverpb.Auth/RoleRevokePermission", UNARY},
    {"lock/lock", "/v3lockpb.Lock/Lock", UNARY},
    {"lock/unlock", "/v3lockpb.Lock/Unlock", UNARY},
    {"election/campaign", "/v3electionpb.Election/Campaign", UNARY},
    {"election/proclaim", "/v3electionpb.Election/Proclaim", UNARY},
    {"election/leader", "/v3electionpb.Election/Leader", UNARY},
    {"election/observe", "/v3electionpb.Election/Observe", SERVER_STREAM},
    {"election/resign", "/v3electionpb.Election/Resign", UNARY},
};

static const char too_large[] = "grpc: received message larger than max";

struct call {
    struct kl_etcd *e;
    struct kl_http_req *r;
    struct kl_grpc_rpc *c; // NULL: not yet
    const struct route *route;
    const struct kl_proto_method *method;
    bool closed;

    struct kl_task task; // holds a reference of r
    bool posted;

    struct kl_buf in; // of the body, what is not decoded
    struct kl_json_edge edge;
    bool in_eof, in_done;
    size_t unreturned;

    bool responded, ended, in_message, any;
    struct kl_http_chunk q[CHUNKS]; // of the service's, not yet converted
    int q_at, q_n;
    unsigned char prefix[PREFIX];
    int prefix_n;
    struct kl_proto_json json;
    struct kl_buf out;
};

// ---- answers without a message

static const struct kl_http_header answer_headers[] = {
    KL_HTTP_HEADER("content-type", "application/json"),
    KL_HTTP_HEADER("grpc-metadata-content-type", "application/grpc")};

// grpc-gateway's runtime.HTTPStatusFromCode.
static int http_status(enum kl_grpc_code code)
{
    static const uint16_t statuses[] = {
        [KL_GRPC_OK] = 200,
        [KL_GRPC_CANCELED] = 499,
        [KL_GRPC_UNKNOWN] = 500,
        [KL_GRPC_INVALID_ARGUMENT] = 400,
        [KL_GRPC_DEADLINE_EXCEEDED] = 504,
        [KL_GRPC_NOT_FOUND] = 404,
        [KL_GRPC_ALREADY_EXISTS] = 409,
        [KL_GRPC_PERMISSION_DENIED] = 403,
        [KL_GRPC_RESOURCE_EXHAUSTED] = 429,
        [KL_GRPC_FAILED_PRECONDITION] = 400,
        [KL_GRPC_ABORTED] = 409,
        [KL_GRPC_OUT_OF_RANGE] = 400,
        [KL_GRPC_UNIMPLEMENTED] = 501,
        [KL_GRPC_INTERNAL] = 500,
        [KL_GRPC_UNAVAILABLE] = 503,
        [KL_GRPC_DATA_LOSS] = 500,
        [KL_GRPC_UNAUTHENTICATED] = 401,
    };
    return (size_t)code < KL_COUNT(statuses) ? statuses[code] : 500;
}

static void put_status(struct kl_buf *b, enum kl_grpc_code code, struct kl_str message, bool stream)
{
    kl_buf_puts(b, stream ? KL_STR("{\"error\":") : KL_STR(""));
    kl_buf_printf(b, "{\"code\":%d,\"message\":", (int)code);
    kl_proto_json_string(b, message);
    kl_buf_puts(b, stream ? KL_STR("}}\n") : KL_STR("}"));
}

static void respond_status(struct kl_http_req *r, enum kl_grpc_code code, struct kl_str message,
                           bool stream)
{
    struct kl_buf b;
    kl_buf_init(&b, SLACK);
    put_status(&b, code, message, stream);
    if (b.err)
        kl_http_abort(r);
    else
        kl_http_respond(r, http_status(code), answer_headers, 1, kl_buf_str(&b));
    kl_buf_fini(&b);
}

static void fail(struct call *g, enum kl_grpc_code code, const char *message)
{
    if (g->responded || g->closed)
        return;
    g->responded = g->ended = true;
    respond_status(g->r, code, kl_str(message), false);
}

// ---- what the service sends

static int end_message(struct call *g)
{
    g->in_message = false;
    g->prefix_n = 0;
    return g->route->streaming ? kl_buf_puts(&g->out, KL_STR("}\n")) : 0;
}

static int begin_message(struct call *g)
{
    const unsigned char *p = g->prefix;
    uint64_t n = (uint64_t)p[1] << 24 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 8 | p[4];
    if (g->route->streaming)
        kl_buf_puts(&g->out, KL_STR("{\"result\":"));
    kl_proto_json_begin(&g->json, g->method->out, n, &g->out);
    g->in_message = g->any = true;
    return n ? 0 : end_message(g);
}

static int convert(struct call *g, struct kl_str s)
{
    int rc = 0;
    while (s.n && !rc) {
        size_t n = s.n;
        if (!g->in_message) {
            g->prefix[g->prefix_n++] = (unsigned char)s.p[0];
            n = 1;
            rc = g->prefix_n == PREFIX ? begin_message(g) : 0;
        } else {
            uint64_t left = kl_proto_json_left(&g->json);
            n = left < n ? (size_t)left : n;
            rc = kl_proto_json_put(&g->json, (struct kl_str){s.p, n}, &g->out);
            if (!rc && n == left)
                rc = kl_proto_json_done(&g->json) ? end_message(g) : KL_EPROTO;
        }
        s = kl_str_from(s, n);
    }
    return rc ? rc : g->out.err;
}

static void drop_chunks(struct call *g)
{
    while (g->q_at < g->q_n)
        kl_bytes_unref(g->q[g->q_at++].bytes);
}

// A piece of what the service has sent. *ret_some: there was any.
static int convert_some(struct call *g, bool *ret_some)
{
    bool end = false;
    *ret_some = false;
    if (g->q_at == g->q_n) {
        int n = kl_grpc_front_pull(g->c, g->q, CHUNKS, &end);
        if (g->closed || n < 0)
            return n < 0 ? n : KL_ECANCELED;
        g->q_at = 0;
        g->q_n = n;
        g->ended = end && !n;
        *ret_some = end; // with the last slices it is said again
    }
    if (g->q_at == g->q_n)
        return 0;
    *ret_some = true;
    struct kl_http_chunk *k = &g->q[g->q_at];
    uint32_t n = k->n < PIECE ? k->n : PIECE;
    int rc = convert(g, (struct kl_str){k->bytes->p + k->off, n});
    k->off += n;
    k->n -= n;
    if (!k->n)
        kl_bytes_unref(g->q[g->q_at++].bytes);
    return rc;
}

static void put_last(struct call *g)
{
    struct kl_str message;
    enum kl_grpc_code code = kl_grpc_front_status(g->c, &message);
    if (code)
        put_status(&g->out, code, message, true);
}

static int fill(struct call *g)
{
    bool some = true;
    int rc = 0;
    while (!rc && some && !g->ended && g->out.n < PIECE)
        rc = convert_some(g, &some);
    return rc;
}

static int pull_answer(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct call *g = arg;
    bool was = g->ended;
    int rc = fill(g);
    if (rc)
        return rc;
    if (g->ended && !was)
        put_last(g);
    *ret_end = g->ended;
    if (!g->out.n)
        return 0;
    struct kl_bytes *b = kl_bytes_from_buf(&g->out);
    if (!b)
        return KL_ENOMEM;
    chunks[0] = (struct kl_http_chunk){b, 0, b->n};
    kl_buf_clear(&g->out);
    return 1;
}

static const struct kl_http_source answer_source = {.pull = pull_answer};

// Nothing was answered yet.
static void begin_answer(struct call *g)
{
    struct kl_str message;
    int rc = fill(g);
    if (g->closed)
        return;
    if (rc) {
        kl_http_abort(g->r);
        return;
    }
    if (!g->any && !g->ended)
        return;
    enum kl_grpc_code code = g->any ? KL_GRPC_OK : kl_grpc_front_status(g->c, &message);
    g->responded = true;
    if (g->any && g->ended)
        put_last(g);
    if (code)
        respond_status(g->r, code, message, g->route->streaming);
    else if (g->ended) // it is whole
        kl_http_respond(g->r, 200, answer_headers, KL_COUNT(answer_headers), kl_buf_str(&g->out));
    else if (kl_http_respond_stream(g->r, 200, answer_headers, KL_COUNT(answer_headers),
                                    &answer_source, g))
        kl_http_abort(g->r);
}

// ---- what the client says

static void end_input(struct call *g)
{
    g->in_done = true;
    if (g->c && !g->closed)
        kl_grpc_front_half_close(g->c);
}

static void on_more(void *arg);
static void clean_up(void *arg);
static const struct kl_grpc_front front = {.more = on_more, .close = clean_up};

static bool open_call(struct call *g)
{
    if (!g->c)
        g->c = kl_grpc_front_open(g->e->grpc, g->r, kl_str(g->route->method), &front, g);
    if (!g->c)
        fail(g, KL_GRPC_RESOURCE_EXHAUSTED, "out of memory");
    return g->c != NULL;
}

// A stream's client hears nothing of it, as with grpc-gateway: its side has just ended.
static void bad_input(struct call *g, int rc, const struct kl_error *err)
{
    if (g->route->streaming != STREAM)
        fail(g,
             rc == KL_ENOMEM || rc == KL_ELIMIT ? KL_GRPC_RESOURCE_EXHAUSTED
                                                : KL_GRPC_INVALID_ARGUMENT,
             rc == KL_ELIMIT ? too_large : err->msg);
    end_input(g);
}

static void take_value(struct call *g, struct kl_str json)
{
    struct kl_buf msg;
    struct kl_error err;
    kl_buf_init(&msg, g->e->o.max_request_bytes + KL_ETCD_GRPC_OVERHEAD);
    int rc = json.n ? kl_proto_from_json(&msg, g->method->in, json, &err) : 0;
    if (rc)
        bad_input(g, rc, &err);
    else if (open_call(g) && !g->closed)
        kl_grpc_front_message(g->c, kl_buf_str(&msg));
    kl_buf_fini(&msg);
}

static void take_input(struct call *g)
{
    struct kl_error err;
    size_t n, at = 0; // what was taken goes at once: values may be many and small
    bool stream = g->route->streaming == STREAM;
    while (!g->closed && !g->in_done && (!stream || kl_grpc_front_takes(g->c))) {
        struct kl_str rest = kl_str_from(kl_buf_str(&g->in), at);
        int rc = kl_json_edge(&g->edge, rest, g->in_eof, &n, &err);
        if (rc) {
            bad_input(g, rc, &err);
        } else if (n || (g->in_eof && !stream)) {
            take_value(g, (struct kl_str){rest.p, n});
            at += n;
            g->edge = (struct kl_json_edge){0};
            if (!stream && !g->in_done)
                end_input(g);
        } else if (g->in_eof) {
            end_input(g);
        } else {
            break;
        }
    }
    if (g->closed)
        return;
    kl_buf_consume(&g->in, at);
    if (!stream || g->in_done || kl_grpc_front_takes(g->c)) {
        kl_http_body_consumed(g->r, g->unreturned);
        g->unreturned = 0;
    }
}

static void on_data(void *arg, struct kl_http_req *r, int status, struct kl_str data, bool end)
{
    struct call *g = arg;
    if (status || g->closed)
        return; // the close says the rest
    g->in_eof |= end;
    g->unreturned += data.n;
    kl_http_req_ref(r);
    if (!g->in_done && kl_buf_puts(&g->in, data)) {
        fail(g, KL_GRPC_RESOURCE_EXHAUSTED, too_large);
        end_input(g);
    }
    take_input(g);
    kl_http_req_unref(r);
}

// ---- begin and end

static void step(struct kl_task *t)
{
    struct call *g = KL_CONTAINER_OF(t, struct call, task);
    struct kl_http_req *r = g->r;
    g->posted = false;
    if (!g->closed)
        take_input(g);
    if (!g->closed && !g->responded)
        begin_answer(g);
    else if (!g->closed)
        kl_http_resume(r);
    kl_http_req_unref(r);
}

static void on_more(void *arg)
{
    struct call *g = arg;
    if (g->closed || g->posted)
        return;
    g->posted = true;
    kl_http_req_ref(g->r);
    kl_loop_post(kl_http_loop(g->r), &g->task);
}

static void clean_up(void *arg)
{
    struct call *g = arg;
    g->closed = true;
    drop_chunks(g);
    kl_buf_fini(&g->in);
    kl_buf_fini(&g->out);
}

static void on_close(void *arg, struct kl_http_req *r, int status)
{
    clean_up(arg);
}

static const struct route *find_route(struct kl_str path)
{
    for (size_t i = 0; i < KL_COUNT(routes); i++)
        if (kl_str_eqz(path, routes[i].path))
            return &routes[i];
    return NULL;
}

static const struct kl_proto_method *find_method(const char *path)
{
    for (size_t i = 0; i < KL_ETCD_METHOD_COUNT; i++)
        if (!strcmp(kl_etcd_methods[i].path, path))
            return &kl_etcd_methods[i];
    return NULL;
}

bool kl_etcd_gateway(struct kl_etcd *e, struct kl_http_req *r)
{
    static const struct kl_str root = KL_STR_INIT("/v3/");
    struct kl_str path = kl_http_path(r);
    if (!kl_str_starts(path, root))
        return false;
    const struct route *route = find_route(kl_str_from(path, root.n));
    if (!route) {
        respond_status(r, KL_GRPC_NOT_FOUND, KL_STR("Not Found"), false);
        return true;
    }
    if (!kl_str_eqz(kl_http_method(r), "POST")) {
        respond_status(r, KL_GRPC_UNIMPLEMENTED, KL_STR("Method Not Allowed"), false);
        return true;
    }
    struct call *g = KL_ARENA_NEW(kl_http_req_arena(r), struct call);
    if (!g) {
        kl_http_abort(r);
        return true;
    }
    g->e = e;
    g->r = r;
    g->route = route;
    g->method = find_method(route->method);
    g->task.run = step;
    kl_buf_init(&g->in, 2 * (e->o.max_request_bytes + KL_ETCD_GRPC_OVERHEAD) + SLACK);
    kl_buf_init(&g->out, MAX_OUT);
    kl_http_req_on_close(r, on_close, g);
    if (route->streaming == STREAM) {
        kl_http_body_patient(r);
        if (!open_call(g))
            return true;
    }
    kl_http_read_stream(r, on_data, g);
    return true;
}
