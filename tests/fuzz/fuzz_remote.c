// SPDX-License-Identifier: Apache-2.0
// What a remote etcd answers (store/remote/): the back end runs against a channel whose answers are
// the input's, on one thread and with a clock that the input turns. The core is one that looks at
// what it is given: revisions go up, keys come in order, every request ends once.
//   input: what is begun (bits), the kind of a lease call, then events:
//   '0'+kind, number, length (2 bytes, little-endian), bytes
#include "fuzz.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/remote/remote_int.h"
#include "store/view_int.h"

enum { LOAD = 1, HEAD = 2, ROWS = 4, RANGE = 8, WRITE = 16, LEASE = 32, COMPACT = 64 };
enum { ANSWER, MESSAGE, CLOSE, TICK, EVENTS };
enum { CALLS_MAX = 64, START_REV = 10, TICKS_MAX = 2000 };

struct kl_grpc_call {
    bool open, unary;
    kl_grpc_message_cb on_message;
    kl_grpc_done_cb done;
    void *arg;
};

static struct {
    struct kl_loop *loop;
    struct kl_backend *b;
    struct kl_task step;
    struct kl_str in;
    struct kl_grpc_call call[CALLS_MAX];
    size_t first; // of those that are open
    int64_t ahead_ms;
    int ticks, ended;
    // the core
    struct kl_view view;
    kl_rev rev;
    struct kl_batch *own;
    struct kl_head_req head;
    struct kl_rows_req rows;
    struct kl_range_req range;
    struct kl_lease_req lease;
    int left; // requests that have not ended
} f;

// ---- the channel

int __wrap_kl_grpc_new(const struct kl_grpc_opts *o, struct kl_grpc **ret, struct kl_error *err);
void __wrap_kl_grpc_close(struct kl_grpc *g);
void __wrap_kl_grpc_reset_backoff(struct kl_grpc *g);
int __wrap_kl_grpc_unary(struct kl_grpc *g, const char *method, struct kl_bytes *request,
                         uint32_t timeout_ms, kl_grpc_done_cb done, void *arg,
                         struct kl_grpc_call **ret, struct kl_error *err);
int __wrap_kl_grpc_bidi(struct kl_grpc *g, const char *method, kl_grpc_message_cb on_message,
                        kl_grpc_done_cb done, void *arg, struct kl_grpc_call **ret,
                        struct kl_error *err);
int __wrap_kl_grpc_send(struct kl_grpc_call *call, struct kl_bytes *message);
bool __wrap_kl_grpc_was_sent(const struct kl_grpc_call *call);
void __wrap_kl_grpc_cancel(struct kl_grpc_call *call);
void __wrap_kl_grpc_pause(struct kl_grpc_call *call);
void __wrap_kl_grpc_resume(struct kl_grpc_call *call);

int __wrap_kl_grpc_new(const struct kl_grpc_opts *o, struct kl_grpc **ret, struct kl_error *err)
{
    *ret = (struct kl_grpc *)&f;
    return 0;
}

static void end_call(struct kl_grpc_call *c, int code, struct kl_str reply)
{
    struct kl_error err = {0};
    c->open = false;
    if (code)
        kl_error_set(&err, kl_grpc_to_err(code), "rpc error: code = %s desc = %.*s",
                     kl_grpc_code_name(code), reply.n < 100 ? (int)reply.n : 100, reply.p);
    c->done(c->arg, code, code ? KL_STR("") : reply, code ? &err : NULL);
}

void __wrap_kl_grpc_close(struct kl_grpc *g)
{
    for (size_t i = 0; g && i < CALLS_MAX; i++)
        if (f.call[i].open)
            end_call(&f.call[i], KL_GRPC_CANCELED, KL_STR("closed"));
}

void __wrap_kl_grpc_reset_backoff(struct kl_grpc *g)
{
}

static int new_call(struct kl_grpc_call c, struct kl_grpc_call **ret, struct kl_error *err)
{
    for (size_t i = 0; i < CALLS_MAX; i++)
        if (!f.call[i].open) {
            f.call[i] = c;
            *ret = &f.call[i];
            return 0;
        }
    return kl_error_set(err, KL_ETOOMANY, "too many calls");
}

int __wrap_kl_grpc_unary(struct kl_grpc *g, const char *method, struct kl_bytes *request,
                         uint32_t timeout_ms, kl_grpc_done_cb done, void *arg,
                         struct kl_grpc_call **ret, struct kl_error *err)
{
    return new_call((struct kl_grpc_call){.open = true, .unary = true, .done = done, .arg = arg},
                    ret, err);
}

int __wrap_kl_grpc_bidi(struct kl_grpc *g, const char *method, kl_grpc_message_cb on_message,
                        kl_grpc_done_cb done, void *arg, struct kl_grpc_call **ret,
                        struct kl_error *err)
{
    return new_call(
        (struct kl_grpc_call){.open = true, .on_message = on_message, .done = done, .arg = arg},
        ret, err);
}

int __wrap_kl_grpc_send(struct kl_grpc_call *call, struct kl_bytes *message)
{
    FUZZ_CHECK(call->open && !call->unary, "a message for a call that has ended");
    return 0;
}

bool __wrap_kl_grpc_was_sent(const struct kl_grpc_call *call)
{
    return true;
}

void __wrap_kl_grpc_cancel(struct kl_grpc_call *call)
{
    FUZZ_CHECK(call->open, "a call is ended twice");
    end_call(call, KL_GRPC_CANCELED, KL_STR("canceled"));
}

void __wrap_kl_grpc_pause(struct kl_grpc_call *call)
{
}

void __wrap_kl_grpc_resume(struct kl_grpc_call *call)
{
}

// ---- the core

struct kl_loop *__wrap_kl_core_loop(struct kl_store *s);
const struct kl_view *__wrap_kl_core_view(const struct kl_store *s);
int __wrap_kl_core_applied(struct kl_store *s, struct kl_batch *b);
int __wrap_kl_core_stored(struct kl_store *s, struct kl_batch *own, struct kl_batch *as);
void __wrap_kl_core_failed(struct kl_store *s, struct kl_batch *b, int code);
int __wrap_kl_core_reset(struct kl_store *s, int (*load)(void *arg, struct kl_loaded *l),
                         void *arg);
void __wrap_kl_core_lease_done(struct kl_store *s, struct kl_lease_req *q);

struct kl_loop *__wrap_kl_core_loop(struct kl_store *s)
{
    return f.loop;
}

const struct kl_view *__wrap_kl_core_view(const struct kl_store *s)
{
    return &f.view;
}

static void check_kv(const struct kl_kv *kv, kl_rev rev)
{
    FUZZ_CHECK(kl_kv_key(kv).n && kv->mod_rev > 0 && kv->mod_rev <= rev, "%lld of %lld",
               (long long)kv->mod_rev, (long long)rev);
    FUZZ_CHECK(kv->deleted ||
                   (kv->version > 0 && kv->create_rev > 0 && kv->create_rev <= kv->mod_rev),
               "version %lld", (long long)kv->version);
}

int __wrap_kl_core_applied(struct kl_store *s, struct kl_batch *b)
{
    FUZZ_CHECK(b->base_rev >= f.rev && b->last_rev >= b->base_rev, "%lld to %lld after %lld",
               (long long)b->base_rev, (long long)b->last_rev, (long long)f.rev);
    for (size_t i = 0; i < b->nrows; i++) {
        check_kv(b->rows[i].kv, b->last_rev);
        FUZZ_CHECK(b->rows[i].kv->id == b->last_rev && b->rows[i].kv->sub == i, "row %zu", i);
    }
    f.rev = b->last_rev;
    kl_batch_free(b);
    return 0;
}

static void end_own(struct kl_batch *own)
{
    FUZZ_CHECK(f.own && own == f.own, "it has ended");
    kl_batch_free(own);
    f.own = NULL;
    f.left--;
}

int __wrap_kl_core_stored(struct kl_store *s, struct kl_batch *own, struct kl_batch *as)
{
    end_own(own);
    return __wrap_kl_core_applied(s, as);
}

void __wrap_kl_core_failed(struct kl_store *s, struct kl_batch *b, int code)
{
    FUZZ_CHECK(code < 0, "%d", code);
    end_own(b);
}

static int take_loaded(void *arg, struct kl_kv *kv)
{
    struct kl_kv **last = arg;
    check_kv(kv, INT64_MAX);
    FUZZ_CHECK(!*last || kl_str_cmp(kl_kv_key(*last), kl_kv_key(kv)) < 0, "%s after %s", kv->key,
               (*last)->key);
    kl_kv_unref(*last);
    *last = kv;
    return 0;
}

int __wrap_kl_core_reset(struct kl_store *s, int (*load)(void *arg, struct kl_loaded *l), void *arg)
{
    struct kl_kv *last = NULL;
    struct kl_loaded l = {.arg = &last, .kv = take_loaded};
    FUZZ_CHECK(!load(arg, &l), "the state is not given");
    FUZZ_CHECK(l.rev >= f.rev && l.compact_rev <= l.rev, "%lld after %lld", (long long)l.rev,
               (long long)f.rev);
    f.rev = l.rev;
    kl_kv_unref(last);
    return 0;
}

void __wrap_kl_core_lease_done(struct kl_store *s, struct kl_lease_req *q)
{
    kl_lease_req_fini(q);
    f.left--;
}

static void head_done(struct kl_head_req *q)
{
    FUZZ_CHECK(q->code || q->rev <= f.rev, "a head of %lld at %lld", (long long)q->rev,
               (long long)f.rev);
    f.left--;
}

static void rows_done(struct kl_rows_req *q)
{
    for (size_t i = 0; i < q->nrows; i++) {
        const struct kl_kv *kv = q->rows[i].kv;
        FUZZ_CHECK(!q->code && kv->id > q->after_id && kv->id <= q->through, "row %lld to %lld",
                   (long long)kv->id, (long long)q->through);
        check_kv(kv, q->through);
        FUZZ_CHECK(!i || kv->id >= q->rows[i - 1].kv->id, "order");
    }
    for (size_t i = 0; i < q->nrows; i++) {
        kl_kv_unref(q->rows[i].kv);
        kl_kv_unref(q->rows[i].prev);
    }
    free(q->rows);
    f.left--;
}

static void range_done(struct kl_range_req *q)
{
    for (size_t i = 0; i < q->nkvs; i++) {
        check_kv(q->kvs[i], INT64_MAX);
        kl_kv_unref(q->kvs[i]);
    }
    free(q->kvs);
    f.left--;
}

// ---- what is begun

static void begin_write(bool compact)
{
    struct kl_remote_write *w = calloc(1, sizeof(*w));
    struct kl_batch *b = kl_batch_new();
    struct kl_bytes *value = kl_bytes_new(KL_STR("v"));
    struct kl_kv *kv = value ? kl_kv_new(KL_STR("/a"), value) : NULL;
    FUZZ_CHECK(w && b && kv && !kl_batch_add_row(b, kv), "no memory");
    kl_bytes_unref(value);
    kv->version = 1;
    b->compact_rev = compact ? START_REV - 1 : 0;
    *w = (struct kl_remote_write){.b = f.b,
                                  .batch = b,
                                  .request = kl_bytes_new(KL_STR("")),
                                  .give_up_ms = kl_mono_ms() + KL_REMOTE_WRITE_MS};
    f.own = b;
    f.b->write = w;
    f.left++;
}

static void begin(uint8_t what, uint8_t kind)
{
    struct kl_backend *b = f.b;
    if (what & LOAD)
        b->must_reload = true;
    kl_remote_feed_start(b, START_REV);
    if (what & (WRITE | COMPACT))
        begin_write(what & COMPACT);
    if (what & HEAD) {
        f.head = (struct kl_head_req){.done = head_done};
        kl_remote_head(b, &f.head);
        f.left++;
    }
    if (what & ROWS) {
        f.rows = (struct kl_rows_req){
            .done = rows_done, .after_id = 3, .max_rows = 4, .max_bytes = 4096};
        kl_remote_read_rows(b, &f.rows);
        f.left++;
    }
    if (what & RANGE) {
        f.range = (struct kl_range_req){.done = range_done,
                                        .key = KL_STR("/"),
                                        .end = KL_STR("0"),
                                        .rev = 5,
                                        .limit = 8,
                                        .max_bytes = 4096};
        kl_remote_read_range(b, &f.range);
        f.left++;
    }
    if (what & LEASE) {
        f.lease = (struct kl_lease_req){
            .kind = kind % (KL_LEASE_LIST + 1), .id = 7, .ttl_s = 10, .want_keys = kind & 128};
        kl_remote_lease(b, &f.lease);
        f.left++;
    }
}

// ---- events

static void tick(int64_t ms)
{
    struct kl_backend *b = f.b;
    f.ahead_ms += ms;
    int64_t now = kl_mono_ms() + f.ahead_ms;
    kl_remote_calls_tick(b, now);
    kl_remote_feed_tick(b, now);
    kl_remote_write_tick(b, now);
    kl_remote_rows_tick(b, now);
    kl_remote_lease_run(b);
}

static struct kl_grpc_call *find_call(bool unary, size_t n)
{
    struct kl_grpc_call *found[CALLS_MAX];
    size_t k = 0;
    for (size_t i = 0; i < CALLS_MAX; i++)
        if (f.call[i].open && f.call[i].unary == unary)
            found[k++] = &f.call[i];
    return k ? found[n % k] : NULL;
}

// False: there are no more.
static bool run_event(void)
{
    const uint8_t *p = (const uint8_t *)f.in.p;
    if (f.in.n < 4 || ++f.ticks > TICKS_MAX)
        return false;
    size_t n = p[2] | (size_t)p[3] << 8;
    n = n < f.in.n - 4 ? n : f.in.n - 4;
    struct kl_str bytes = {f.in.p + 4, n};
    f.in = kl_str_from(f.in, 4 + n);
    int kind = p[0] % EVENTS;
    struct kl_grpc_call *c = kind == TICK ? NULL : find_call(kind == ANSWER, p[1] >> 5);
    if (kind == TICK)
        tick((int64_t)p[1] * 100);
    else if (c && kind == MESSAGE)
        c->on_message(c->arg, c, bytes);
    else if (c)
        end_call(c, p[1] % (KL_GRPC_UNAUTHENTICATED + 1), bytes);
    return true;
}

static void close_backend(struct kl_backend *b)
{
    b->closing = true;
    kl_remote_feed_stop(b);
    kl_remote_rows_stop(b);
    __wrap_kl_grpc_close(b->grpc);
    b->grpc = NULL;
    kl_remote_calls_cancel(b);
    kl_remote_lease_stop(b);
}

// What is posted meanwhile runs between two steps, and after the last.
static void run_step(struct kl_task *t)
{
    if (f.ended == 0 && !run_event())
        f.ended = 1;
    if (f.ended == 1)
        close_backend(f.b);
    if (f.ended)
        f.ended++;
    if (f.ended > 8)
        uv_stop(kl_loop_uv(f.loop));
    else
        kl_loop_post(f.loop, &f.step);
}

static void end_write(struct kl_backend *b)
{
    if (!b->write)
        return;
    FUZZ_CHECK(!b->write->called, "a call that was not ended");
    kl_bytes_unref(b->write->request);
    free(b->write);
    end_own(f.own);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_error err;
    struct kl_loop *loop = f.loop;
    if (size < 2)
        return 0;
    if (!loop) {
        kl_log_setup(KL_LOG_NONE, false);
        FUZZ_CHECK(!kl_loop_new("fuzz", &loop, &err), "%s", err.msg);
    }
    memset(&f, 0, sizeof(f));
    f.loop = loop;
    f.rev = START_REV;
    f.view.rev = START_REV;
    struct kl_backend *b = f.b = calloc(1, sizeof(*b));
    FUZZ_CHECK(b, "no memory");
    b->loop = loop;
    b->ntargets = 1;
    b->targets[0] = (char *)(uintptr_t) "127.0.0.1:1";
    b->cluster_id = 1;
    b->held_end = &b->held;
    b->stuck_end = &b->stuck;
    kl_arena_init(&b->arena, 0);
    kl_remote_new_fence(b);
    f.in = (struct kl_str){(const char *)data + 2, size - 2};
    begin(data[0], data[1]);
    f.step.run = run_step;
    kl_loop_post(loop, &f.step);
    kl_loop_run(loop);
    end_write(b);
    if (b->head) // run_head did not come to an end: nobody asks any more
        f.left--;
    FUZZ_CHECK(!f.left, "%d requests have not ended", f.left);
    kl_arena_fini(&b->arena);
    free(b);
    return 0;
}
