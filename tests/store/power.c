// SPDX-License-Identifier: Apache-2.0
// Power loss: writers run, the power goes at an operation chosen by seed, and what comes up again
// from what had reached the disk must hold every acknowledged write, no transaction by half, no
// hole in the history and no damage. In every third round a sync fails before.
#include "harness.h"
#include "power_vfs.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WRITERS = 8, ROWS = 3, GROUPS = 6, MAX_CUT = 160 };

// Each transaction of a writer puts its number into, or deletes, all keys of one of its groups.
struct state {
    int64_t seq; // 0: deleted or never written
    kl_rev rev;
};

struct writer {
    struct kl_txn txn;
    struct kl_op op[ROWS];
    char key[ROWS][48];
    struct round *round;
    int id, group;
    int64_t seq;
    bool deletes, open; // without an answer that says how it ended
};

struct round {
    struct hs_store *hs;
    struct hs_client c;
    struct writer w[WRITERS];
    uint64_t rand;
    atomic_int running;
    kl_rev max_rev; // acknowledged
    long acks, refused;
    struct kl_lease_req lease;
    int64_t lease_id; // acknowledged
};

struct known {
    struct state group[WRITERS][GROUPS];
    int64_t seq;
    int64_t lease_id;
};

static struct known known;
static const char *plain_vfs;

static void submit(struct writer *w);

static void answered(struct kl_txn *txn)
{
    struct writer *w = KL_CONTAINER_OF(txn, struct writer, txn);
    struct round *r = w->round;
    struct state *s = &known.group[w->id][w->group];
    bool off = power_is_off();
    if (!txn->code) {
        w->open = false;
        *s = (struct state){w->deletes ? 0 : w->seq, txn->rev};
        r->max_rev = txn->rev > r->max_rev ? txn->rev : r->max_rev;
        r->acks++;
    } else if (!off && txn->code != KL_EMAYBE) {
        w->open = false; // refused for good: it must not be there
        r->refused++;
    }
    int code = txn->code;
    kl_txn_fini(txn);
    for (int i = 0; i < ROWS; i++)
        kl_bytes_unref(w->op[i].value);
    if (off || code == KL_EMAYBE) {
        atomic_fetch_sub(&r->running, 1);
        return;
    }
    if (!code && hs_rand(&r->rand) % 16 == 0) {
        struct kl_compact_wait *c = calloc(1, sizeof(*c));
        c->rev = txn->rev - (kl_rev)(hs_rand(&r->rand) % 40);
        c->cb = (void (*)(struct kl_compact_wait *))free;
        if (c->rev < 2 || kl_store_compact(r->hs->s, c, NULL))
            free(c);
    }
    submit(w);
}

static void submit(struct writer *w)
{
    struct round *r = w->round;
    w->group = (int)(hs_rand(&r->rand) % GROUPS);
    w->seq = ++known.seq;
    w->open = true;
    w->deletes = hs_rand(&r->rand) % 6 == 0;
    size_t n = 20 + hs_rand(&r->rand) % (hs_rand(&r->rand) % 20 ? 900 : 30000);
    for (int i = 0; i < ROWS; i++) {
        snprintf(w->key[i], sizeof(w->key[i]), "/p/%d/%d/%d", w->id, w->group, i);
        w->op[i] =
            (struct kl_op){.kind = w->deletes ? KL_OP_DELETE : KL_OP_PUT, .key = kl_str(w->key[i])};
        if (w->deletes)
            continue;
        char *v = malloc(n);
        memset(v, 'a' + i, n);
        v[snprintf(v, n, "%lld", (long long)w->seq)] = ' ';
        w->op[i].value = kl_bytes_new((struct kl_str){v, n});
        free(v);
    }
    w->txn = (struct kl_txn){.body = {.then = w->op, .nthen = ROWS}, .cb = answered};
    assert_int_equal(kl_store_submit(r->hs->s, &w->txn, NULL), 0);
}

static void granted(struct kl_lease_req *q)
{
    struct round *r = KL_CONTAINER_OF(q, struct round, lease);
    if (!q->code)
        r->lease_id = q->id;
    atomic_fetch_sub(&r->running, 1);
}

static void start_writers(struct hs_client *c, void *arg)
{
    struct round *r = arg;
    atomic_store(&r->running, WRITERS + 1);
    r->lease = (struct kl_lease_req){.kind = KL_LEASE_GRANT, .ttl_s = 100000, .cb = granted};
    assert_int_equal(kl_store_lease(r->hs->s, &r->lease, NULL), 0);
    for (int i = 0; i < WRITERS; i++) {
        r->w[i].round = r;
        r->w[i].id = i;
        submit(&r->w[i]);
    }
}

// ---- afterwards ----

static void copy_file(const char *from, const char *to)
{
    FILE *a = fopen(from, "rb"), *b = fopen(to, "wb");
    char buf[65536];
    for (size_t n; a && (n = fread(buf, 1, sizeof(buf), a));)
        assert_int_equal(fwrite(buf, 1, n, b), n);
    if (a)
        fclose(a);
    fclose(b);
}

static int take_text(void *arg, int n, char **col, char **name)
{
    snprintf(arg, 200, "%s", col[0]);
    return 0;
}

// On a copy, so that the store recovers by itself afterwards.
static void check_integrity(const struct hs_store *hs, int round)
{
    char from[160], to[160], text[200] = "";
    static const char *const ext[] = {"", "-wal", "-journal"};
    for (int i = 0; i < 3; i++) {
        snprintf(from, sizeof(from), "%s/state.db%s", hs->dir, ext[i]);
        snprintf(to, sizeof(to), "%s/copy.db%s", hs->dir, ext[i]);
        unlink(to);
        if (access(from, F_OK) == 0)
            copy_file(from, to);
    }
    snprintf(to, sizeof(to), "%s/copy.db", hs->dir);
    sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(to, &db, SQLITE_OPEN_READWRITE, plain_vfs), SQLITE_OK);
    int rc = sqlite3_exec(db, "PRAGMA integrity_check", take_text, text, NULL);
    sqlite3_close(db);
    if (rc || strcmp(text, "ok") != 0)
        fail_msg("round %d: integrity_check: %d %s", round, rc, text);
}

static void read_group(struct hs_client *c, int w, int g, struct state *ret, int round)
{
    struct state s[ROWS];
    for (int i = 0; i < ROWS; i++) {
        char key[48];
        snprintf(key, sizeof(key), "/p/%d/%d/%d", w, g, i);
        struct kl_kv *kv = hs_get(c, key);
        s[i] = kv ? (struct state){strtoll(kl_kv_value(kv).p, NULL, 10), kv->mod_rev}
                  : (struct state){0, 0};
        kl_kv_unref(kv);
        if (s[i].seq != s[0].seq || s[i].rev != s[0].rev)
            fail_msg("round %d: %s has %lld at %lld, its group %lld at %lld: half a transaction",
                     round, key, (long long)s[i].seq, (long long)s[i].rev, (long long)s[0].seq,
                     (long long)s[0].rev);
    }
    *ret = s[0];
}

static void check_state(struct round *r, const struct writer *open, int round)
{
    struct hs_client *c = &r->c;
    kl_rev head = hs_rev(c);
    if (head < r->max_rev)
        fail_msg("round %d: %lld was acknowledged, the store is at %lld", round,
                 (long long)r->max_rev, (long long)head);
    for (int w = 0; w < WRITERS; w++) {
        for (int g = 0; g < GROUPS; g++) {
            struct state have, *want = &known.group[w][g];
            read_group(c, w, g, &have, round);
            bool maybe = open[w].open && open[w].group == g &&
                         have.seq == (open[w].deletes ? 0 : open[w].seq);
            if (!maybe && (have.seq != want->seq || (have.seq && have.rev != want->rev)))
                fail_msg("round %d: writer %d group %d has %lld at %lld, acknowledged %lld at %lld",
                         round, w, g, (long long)have.seq, (long long)have.rev,
                         (long long)want->seq, (long long)want->rev);
            *want = have;
        }
    }
    struct kl_store_status st;
    kl_store_status(r->hs->s, &st);
    struct hs_watch w = {0};
    kl_rev from = st.compact_rev > 1 ? st.compact_rev + 1 : 2;
    assert_int_equal(hs_watch_start(&w, c, "/p/", "/p0", from), 0);
    hs_watch_wait_rev(&w, head);
    assert_int_equal(w.code, 0);
    // All of a transaction have its last id as revision, which rows before `from` may share.
    kl_rev last = from - 1;
    for (size_t i = 0; i < w.n; i++) {
        if (w.ev[i].rev < last || w.ev[i].rev > last + ROWS)
            fail_msg("round %d: history goes from %lld to %lld", round, (long long)last,
                     (long long)w.ev[i].rev);
        last = w.ev[i].rev;
    }
    assert_int_equal(last, head);
    hs_watch_fini(&w);
    if (known.lease_id) {
        struct kl_lease_req t = {.kind = KL_LEASE_TTL, .id = known.lease_id};
        assert_int_equal(hs_lease(c, &t), 0);
    }
}

// Runs until the power goes; true when the store had come up before.
static bool run_round(struct round *r, int round, uint64_t seed)
{
    struct kl_error err = {0};
    long cut = 1 + (long)(hs_rand(&seed) % MAX_CUT);
    long fail = round % 3 == 2 ? 1 + (long)(hs_rand(&seed) % (unsigned long)cut) : 0;
    if (round % 6 == 2) // right after it
        cut = -1 - (long)(hs_rand(&seed) % 4);
    r->rand = hs_rand(&seed) | 1;
    power_on(seed, cut, fail);
    int code = kl_store_open(r->hs->url, &r->hs->o, &r->hs->s, &err);
    if (code) {
        if (!power_is_off() && !power_sync_failed())
            fail_msg("round %d: %s", round, err.msg);
        return false;
    }
    hs_client_open(&r->c, r->hs);
    hs_run(&r->c, start_writers, r);
    int64_t until = kl_mono_ms() + 120000;
    while (atomic_load(&r->running)) {
        if (kl_mono_ms() > until)
            fail_msg("round %d: writers without an answer", round);
        usleep(200);
    }
    hs_client_detach(&r->c); // its loop stays: a compaction may be answered only now
    kl_store_stop(r->hs->s);
    r->hs->s = NULL;
    hs_client_close(&r->c);
    return true;
}

// The power goes again while the store comes up, or goes down.
static void cut_recovery(struct hs_store *hs, uint64_t seed)
{
    power_on(seed, 1 + (long)(hs_rand(&seed) % 12), 0);
    if (kl_store_open(hs->url, &hs->o, &hs->s, NULL) == 0)
        hs_stop(hs);
    if (power_is_off())
        power_settle();
}

static void cuts(void **state)
{
    uint64_t seed = hs_seed();
    struct hs_store hs;
    int rounds = hs_scale(400), up = 0;
    long acks = 0, refused = 0;
    hs_open(&hs, "sqlite", NULL);
    hs_stop(&hs);
    for (int i = 0; i < rounds; i++) {
        if (i % 20 == 0) { // from nothing: creation is cut too
            hs_close(&hs);
            hs_open(&hs, "memory", NULL); // makes the directory
            hs_stop(&hs);
            snprintf(hs.url, sizeof(hs.url), "sqlite://%s/state.db", hs.dir);
            memset(&known, 0, sizeof(known));
        }
        struct round *r = calloc(1, sizeof(*r));
        r->hs = &hs;
        kl_fault_set("sqlite.soon", i % 2, -1); // checkpoints all the time, beside the writer
        bool was_up = run_round(r, i, hs_rand(&seed));
        if (power_is_off()) // else each writer got a "maybe", or the sync that failed kept it down
            power_settle();
        while (hs_rand(&seed) % 3 == 0)
            cut_recovery(&hs, hs_rand(&seed));
        check_integrity(&hs, i);
        power_on(seed, 0, 0);
        struct kl_error err;
        if (kl_store_open(hs.url, &hs.o, &hs.s, &err))
            fail_msg("round %d: %s", i, err.msg);
        hs_client_open(&r->c, &hs);
        known.lease_id = r->lease_id ? r->lease_id : known.lease_id;
        check_state(r, r->w, i);
        hs_client_close(&r->c);
        hs_stop(&hs);
        up += was_up;
        acks += r->acks;
        refused += r->refused;
        free(r);
    }
    print_message("%d cuts, %d of them in service: %ld acknowledged, %ld refused\n", rounds, up,
                  acks, refused);
    assert_true(up > rounds / 2);
    assert_true(acks > rounds);
    hs_close(&hs);
}

int main(void)
{
    kl_log_setup(getenv("STORE_LOG") ? KL_LOG_WARN : KL_LOG_NONE, false); // each fault logs a line
    if (access("/dev/shm", W_OK) == 0)
        setenv("STORE_DIR", "/dev/shm", 0); // the disk that is tested is ours
    plain_vfs = power_vfs_install();
    const struct CMUnitTest tests[] = {cmocka_unit_test(cuts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
