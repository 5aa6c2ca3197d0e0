// SPDX-License-Identifier: Apache-2.0
// CPU time of the whole process per 1 KiB create, at 1, 32 and 1000 submitters, and what an idle
// store and a full one cost in memory.  store_bench [SCHEME|URL] [COUNT [PID]]
// With the process id of a database server, its CPU time and its children's are counted too.
#include "store/store.h"
#include "base/clock.h"
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct submitter {
    struct kl_txn txn;
    struct kl_op op;
    struct kl_compare cmp;
    struct bench *b;
    int64_t started_ns;
    char key[96];
};

struct bench {
    struct kl_store *s;
    struct kl_loop *loop;
    struct kl_bytes *value;
    struct kl_task task;
    struct submitter *sub;
    int nsub, left, open;
    int64_t serial;
    int64_t *lat;
    int nlat;
    long server;
};

static double cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

// Of the database server: its main process with the children that ended, and those that live.
static double server_cpu_us(long pid)
{
    double ticks = 0;
    glob_t g;
    if (!pid || glob("/proc/[0-9]*/stat", 0, NULL, &g))
        return 0;
    for (size_t i = 0; i < g.gl_pathc; i++) {
        char text[512] = "", *p;
        FILE *f = fopen(g.gl_pathv[i], "r");
        if (f && fgets(text, sizeof(text), f) && (p = strrchr(text, ')'))) {
            long id = strtol(text, NULL, 10), parent = strtol(p + 4, &p, 10);
            double v[13] = {0};
            for (int k = 0; k < 13; k++)
                v[k] = strtod(p, &p);
            if (id == pid || parent == pid)
                ticks += v[9] + v[10];
            if (id == pid)
                ticks += v[11] + v[12];
        }
        if (f)
            fclose(f);
    }
    globfree(&g);
    return ticks * 1e6 / (double)sysconf(_SC_CLK_TCK);
}

static long rss_kib(void)
{
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &pages, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void submit_next(struct submitter *u);

static void created(struct kl_txn *txn)
{
    struct submitter *u = KL_CONTAINER_OF(txn, struct submitter, txn);
    struct bench *b = u->b;
    if (txn->code || !txn->body.succeeded) {
        fprintf(stderr, "create %s: %d %s\n", u->key, txn->code, txn->err.msg);
        exit(1);
    }
    b->lat[b->nlat++] = kl_mono_ns() - u->started_ns;
    kl_txn_fini(txn);
    kl_bytes_unref(u->op.value);
    submit_next(u);
}

static void submit_next(struct submitter *u)
{
    struct bench *b = u->b;
    if (!b->left) {
        if (--b->open == 0)
            kl_loop_stop(b->loop);
        return;
    }
    b->left--;
    // As names come: a prefix that many share and a random end.
    snprintf(u->key, sizeof(u->key), "/registry/pods/namespace-%d/workload-%08x-%lld",
             (int)(b->serial % 20), (unsigned)(b->serial * 2654435761u), (long long)b->serial);
    b->serial++;
    u->cmp = (struct kl_compare){.key = kl_str(u->key), .target = KL_COMPARE_MOD};
    u->op = (struct kl_op){
        .kind = KL_OP_PUT, .key = kl_str(u->key), .value = kl_bytes_new(kl_bytes_str(b->value))};
    u->txn = (struct kl_txn){
        .body = {.compares = &u->cmp, .ncompares = 1, .then = &u->op, .nthen = 1}, .cb = created};
    u->started_ns = kl_mono_ns();
    struct kl_error err;
    if (kl_store_submit(b->s, &u->txn, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
}

static void start(struct kl_task *t)
{
    struct bench *b = KL_CONTAINER_OF(t, struct bench, task);
    b->open = b->nsub;
    for (int i = 0; i < b->nsub; i++)
        submit_next(&b->sub[i]);
}

static int cmp_ns(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void run(struct bench *b, int nsub, int count)
{
    struct kl_error err;
    b->nsub = nsub;
    b->left = count;
    b->nlat = 0;
    b->lat = calloc((size_t)count, sizeof(*b->lat));
    b->sub = calloc((size_t)nsub, sizeof(*b->sub));
    for (int i = 0; i < nsub; i++)
        b->sub[i].b = b;
    if (kl_loop_new("bench", &b->loop, &err))
        exit(1);
    b->task.run = start;
    kl_loop_post(b->loop, &b->task);
    struct kl_store_status before, after;
    kl_store_status(b->s, &before);
    double cpu = cpu_us(), server = server_cpu_us(b->server);
    int64_t t = kl_mono_ns();
    kl_loop_run(b->loop);
    double wall = (double)(kl_mono_ns() - t) / 1e9;
    cpu = cpu_us() - cpu;
    server = server_cpu_us(b->server) - server;
    kl_store_status(b->s, &after);
    kl_loop_unref(b->loop);
    qsort(b->lat, (size_t)b->nlat, sizeof(*b->lat), cmp_ns);
    printf("%5d submitters: %6d creates, %6.1f us CPU each + %.1f of the server, %7.0f/s, p50 "
           "%6.2f ms, p99 %6.2f ms, "
           "%5.1f a batch\n",
           nsub, count, cpu / count, server / count, count / wall,
           (double)b->lat[b->nlat / 2] / 1e6, (double)b->lat[(int)(b->nlat * 0.99)] / 1e6,
           (double)count / (double)(after.batches - before.batches));
    free(b->lat);
    free(b->sub);
}

int main(int argc, char **argv)
{
    const char *scheme = argc > 1 ? argv[1] : "sqlite";
    int count = argc > 2 ? atoi(argv[2]) : 20000;
    char dir[] = "/tmp/kl-store-bench-XXXXXX", url[256], cmd[64];
    struct bench b = {0};
    struct kl_error err;
    if (!mkdtemp(dir))
        return 1;
    b.server = argc > 3 ? strtol(argv[3], NULL, 10) : 0;
    if (strstr(scheme, "://"))
        snprintf(url, sizeof(url), "%s", scheme);
    else
        snprintf(url, sizeof(url), "%s://%s/db", scheme, dir);
    long rss = rss_kib();
    int64_t t = kl_mono_ns();
    if (kl_store_open(url, NULL, &b.s, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    printf("open %.1f ms\n", (double)(kl_mono_ns() - t) / 1e6);
    struct kl_bytes *v = kl_bytes_alloc(1024);
    memset(v->p, 'v', v->n);
    b.value = v;
    run(&b, 1, 300);
    printf("memory of a store with 300 keys: %ld KiB\n", rss_kib() - rss);
    run(&b, 1, count / 10);
    run(&b, 32, count);
    run(&b, 1000, count);
    struct kl_store_status st;
    kl_store_status(b.s, &st);
    printf("memory with %lld keys of 1 KiB and a ring of %.1f MiB: %ld KiB\n", (long long)st.keys,
           (double)st.ring_bytes / 1048576, rss_kib() - rss);
    kl_store_stop(b.s);
    t = kl_mono_ns();
    if (strcmp(scheme, "memory") != 0 && kl_store_open(url, NULL, &b.s, &err) == 0) {
        printf("open with %lld keys: %.1f ms\n", (long long)st.keys,
               (double)(kl_mono_ns() - t) / 1e6);
        kl_store_stop(b.s);
    }
    kl_bytes_unref(v);
    snprintf(cmd, sizeof(cmd), "%s/db", dir);
    unlink(cmd);
    return rmdir(dir);
}
