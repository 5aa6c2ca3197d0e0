// SPDX-License-Identifier: Apache-2.0
// kinglet migrate: one datastore into another; with --online while a server serves the first.
#include "cli/admin.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/online.h"
#include "cli/store_cmd.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/transfer/copy.h"
#include "store/transfer/fence.h"
#include "store/transfer/kine.h"
#include "store/transfer/target.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_MS = 5000, // between lines when there is no terminal
};

struct options {
    const char *from, *to, *to_kine, *data_dir, *cafile, *certfile, *keyfile;
    bool verify, dry_run, force, online, unfence, help;
};

#define AT(field) offsetof(struct options, field)

static const struct kl_flag flags[] = {
    {"from", 0, NULL, KL_FLAG_STRING, AT(from), "URL", NULL, "migrate",
     "Datastore to copy (with --online: that of the running server)"},
    {"to", 0, NULL, KL_FLAG_STRING, AT(to), "URL", NULL, "migrate", "Datastore to fill"},
    {"to-kine", 0, NULL, KL_FLAG_STRING, AT(to_kine), "URL", NULL, "migrate",
     "Datastore to turn back, in place, into one that kine and K3s open"},
    {"verify", 0, NULL, KL_FLAG_BOOL, AT(verify), NULL, "false", "migrate",
     "Compare digests of both sides afterwards"},
    {"dry-run", 0, NULL, KL_FLAG_BOOL, AT(dry_run), NULL, "false", "migrate",
     "Say what would be done"},
    {"force", 0, NULL, KL_FLAG_BOOL, AT(force), NULL, "false", "migrate",
     "Replace what the target holds"},
    {"online", 0, NULL, KL_FLAG_BOOL, AT(online), NULL, "false", "migrate",
     "Copy while the server serves, follow its log, then hold its writes off"},
    {"unfence", 0, NULL, KL_FLAG_BOOL, AT(unfence), NULL, "false", "migrate",
     "Let a datastore that was moved take writes again: that of the running server, or --from"},
    {"data-dir", 'd', "KINGLET_DATA_DIR", KL_FLAG_STRING, AT(data_dir), "DIR", NULL, "data",
     "Data directory of the running server (--online, --unfence)"},
    {"datastore-cafile", 0, "KINGLET_DATASTORE_CAFILE", KL_FLAG_STRING, AT(cafile), "FILE", NULL,
     "db", "CA of the databases"},
    {"datastore-certfile", 0, "KINGLET_DATASTORE_CERTFILE", KL_FLAG_STRING, AT(certfile), "FILE",
     NULL, "db", "Client certificate for them"},
    {"datastore-keyfile", 0, "KINGLET_DATASTORE_KEYFILE", KL_FLAG_STRING, AT(keyfile), "FILE", NULL,
     "db", "Its key"},
    {"help", 'h', NULL, KL_FLAG_BOOL, AT(help), NULL, "false", "help", "This text"},
};

struct migration {
    const struct options *o;
    const char *data_dir;
    struct kl_store *store; // the source, when it is not a server
    int64_t began_ms, told_ms;
    bool terminal, told;
    struct kl_online online;
};

// ---- progress ----

static void show(void *arg, const struct kl_store_copy_progress *p)
{
    struct migration *m = arg;
    int64_t now = kl_mono_ms(), took = now - m->began_ms + 1;
    char size[32], rate[32], left[48] = "";
    if (!m->terminal && now - m->told_ms < LINE_MS)
        return;
    m->told_ms = now;
    m->told = true;
    double per_ms = (double)p->rows / (double)took;
    kl_size_text(p->bytes, size);
    kl_size_text((int64_t)((double)p->bytes * 1000 / (double)took), rate);
    if (p->following)
        snprintf(left, sizeof(left), "%lld revisions behind", (long long)(p->head - p->rev));
    else if (p->rows < p->total && per_ms > 0)
        snprintf(left, sizeof(left), "%lld s left",
                 (long long)((double)(p->total - p->rows) / per_ms / 1000 + 1));
    int64_t percent = p->total ? p->rows * 100 / p->total : 100;
    percent = percent > 100 ? 100 : percent;
    if (m->terminal) {
        char bar[31] = "";
        for (int i = 0; i < 30; i++)
            bar[i] = i < percent * 30 / 100 ? '#' : '.';
        fprintf(stderr, "\r[%.30s] %3lld%%  %lld keys, %s, %s/s, %s\033[K", bar, (long long)percent,
                (long long)p->rows, size, rate, left);
    } else {
        fprintf(stderr, "copied %lld of %lld keys (%lld%%), %s, %s/s%s%s\n", (long long)p->rows,
                (long long)p->total, (long long)percent, size, rate, left[0] ? ", " : "", left);
    }
}

// ---- the end ----

static int digest_of_source(struct migration *m, struct kl_target *numbers, char ret[65],
                            struct kl_error *err)
{
    unsigned char d[KL_DIGEST_BYTES];
    kl_rev rev;
    if (m->store) {
        int r = kl_store_digest(m->store, kl_target_renumber, numbers, d, &rev, err);
        for (int i = 0; !r && i < KL_DIGEST_BYTES; i++)
            snprintf(ret + 2 * i, 3, "%02x", d[i]);
        return r;
    }
    return kl_online_digest(&m->online, ret, err);
}

static int verify(struct migration *m, struct kl_store *target, struct kl_target *numbers,
                  struct kl_error *err)
{
    unsigned char d[KL_DIGEST_BYTES];
    char have[65] = "", want[65] = "";
    kl_rev rev;
    int r = kl_store_digest(target, NULL, NULL, d, &rev, err);
    for (int i = 0; !r && i < KL_DIGEST_BYTES; i++)
        snprintf(have + 2 * i, 3, "%02x", d[i]);
    if (!r)
        r = digest_of_source(m, numbers, want, err);
    if (!r && strcmp(have, want) != 0)
        r = kl_error_set(err, KL_ECORRUPT,
                         "the copy is not the same: digest %s, that of the source %s", have, want);
    if (!r)
        printf("verified: both sides have digest %s\n", have);
    return r;
}

static void report(const struct migration *m, const struct kl_store_copy_result *r, const char *to)
{
    char size[32];
    int64_t took = kl_mono_ms() - m->began_ms;
    printf("copied %lld keys, %s, to %s in %lld.%lld s; revision %lld\n", (long long)r->rows,
           kl_size_text(r->bytes, size), to, (long long)took / 1000, (long long)(took % 1000) / 100,
           (long long)r->rev);
    if (r->resumed)
        printf("an earlier copy was continued\n");
    if (r->restarted)
        printf("an earlier copy could not be continued, as the source has compacted what changed "
               "since; it was begun anew\n");
    if (r->shared)
        printf("%lld keys shared their revisions with others: they were renumbered in order, and "
               "revision %lld of the source is %lld here\n",
               (long long)r->shared, (long long)r->from_rev, (long long)r->rev);
    if (m->o->online)
        printf("the old datastore has taken no writes since revision %lld; the pause was %lld ms. "
               "Stop its servers and start kinglet with --datastore-endpoint %s (kinglet migrate "
               "--unfence undoes this)\n",
               (long long)m->online.fence_rev, (long long)r->pause_ms, to);
}

// ---- the command ----

static int say_held(struct kl_error *err)
{
    struct kl_error was = *err;
    return kl_error_set(err, was.code, "%.800s; stop it, or copy while it serves with --online",
                        was.msg);
}

static int open_origin(struct migration *m, struct kl_store_copy_origin *ret, struct kl_error *err)
{
    const struct options *o = m->o;
    const struct kl_store_options reading = {
        .read_only = true, .cafile = o->cafile, .certfile = o->certfile, .keyfile = o->keyfile};
    if (o->online) {
        *ret = kl_online_origin(&m->online);
        return kl_admin_is_served(m->data_dir)
                   ? 0
                   : kl_error_set(err, KL_EUNAVAILABLE,
                                  "no server runs on %s: --online needs one, without it the "
                                  "datastore is copied as it lies",
                                  m->data_dir);
    }
    int r = kl_store_cmd_open(o->from, &reading, &m->store, err);
    if (r == KL_EUNAVAILABLE && strstr(err->msg, "in use by"))
        return say_held(err);
    *ret = kl_store_copy_from_store;
    ret->arg = m->store;
    return r;
}

static int dry_run(struct migration *m, const struct kl_store_copy_origin *from, const char *to,
                   struct kl_error *err)
{
    uint64_t id;
    kl_rev rev;
    struct kl_source *src;
    struct kl_record rec = {0};
    int r = from->identify(from->arg, &id, &rev, err);
    if (!r)
        r = from->open(from->arg, &(struct kl_source_from){0}, &src, err);
    if (r)
        return r;
    r = src->next(src, &rec, err);
    src->close(src);
    if (r)
        return r;
    printf("would copy %lld keys at revision %lld from %s to %s\n", (long long)rec.header.keys,
           (long long)rec.header.rev, rec.header.backend, to);
    if (kl_store_cmd_is_missing(m->o->to))
        printf("%s would be created\n", to);
    else
        printf("if %s holds data, it %s\n", to,
               m->o->force ? "would be replaced" : "would be refused (--force replaces it)");
    return 0;
}

static int migrate(struct migration *m, struct kl_error *err)
{
    const struct options *o = m->o;
    const struct kl_store_options store = {
        .read_only = true, .cafile = o->cafile, .certfile = o->certfile, .keyfile = o->keyfile};
    struct kl_store_copy_options c = {.to = o->to,
                                      .store = &store,
                                      .force = o->force,
                                      .follow = o->online,
                                      .progress = show,
                                      .arg = m};
    struct kl_store_copy_origin from;
    struct kl_store_copy_result result;
    struct kl_store *target = NULL;
    struct kl_target *numbers = NULL;
    char to[512];
    kl_endpoint_redact(o->to, to, sizeof(to));
    kl_online_init(&m->online, m->data_dir, to);
    int r = open_origin(m, &from, err);
    if (!r && o->dry_run) {
        r = dry_run(m, &from, to, err);
    } else if (!r) {
        r = kl_store_copy(&from, &c, &result, o->verify ? &target : NULL, &numbers, err);
        if (m->terminal && m->told)
            fputc('\n', stderr);
        if (!r && o->verify)
            r = verify(m, target, numbers, err);
        if (!r && o->online)
            r = kl_online_keep(&m->online, err);
        if (!r)
            report(m, &result, to);
        else if (o->online)
            kl_online_lift(&m->online);
        kl_store_stop(target);
        kl_target_close(numbers);
    }
    kl_online_fini(&m->online);
    kl_store_stop(m->store);
    return r;
}

// Through the server when one runs, whichever of several it is.
static int unfence(const struct options *o, const char *data_dir, struct kl_error *err)
{
    const struct kl_store_options writing = {
        .cafile = o->cafile, .certfile = o->certfile, .keyfile = o->keyfile};
    struct kl_store *s;
    struct kl_buf b;
    if (!o->from) {
        kl_buf_init(&b, 1 << 20);
        int r = kl_admin_is_served(data_dir)
                    ? kl_admin_call(data_dir, "DELETE", "/v1/fence?rev=0", &b, err)
                    : kl_error_set(err, KL_EUNAVAILABLE,
                                   "no server runs on %s: say --from URL, which datastore is meant",
                                   data_dir);
        kl_buf_fini(&b);
        return r;
    }
    int r = kl_store_cmd_open(o->from, &writing, &s, err);
    if (r)
        return r;
    r = kl_fence_lift(s, 0, err);
    kl_store_stop(s);
    return r;
}

static const char *misuse(const struct options *o)
{
    if (o->to_kine)
        return o->from || o->to || o->online || o->unfence ? "--to-kine stands alone" : NULL;
    if (o->unfence)
        return o->to || o->online ? "--unfence goes with --from or --data-dir only" : NULL;
    if (!o->to)
        return "--to URL is needed: where the copy goes";
    if (!o->from && !o->online)
        return "--from URL is needed: what is copied";
    if (o->from && !strcmp(o->from, o->to))
        return "--from and --to are the same";
    return NULL;
}

int kl_cmd_migrate(int argc, char **argv)
{
    struct options o = {0};
    struct kl_arena a;
    struct kl_error err = {0};
    kl_arena_init(&a, 1 << 20);
    kl_log_setup(KL_LOG_WARN, false);
    signal(SIGPIPE, SIG_IGN);
    int r = kl_flags_parse(flags, KL_COUNT(flags), &o, &a, argc, argv, NULL, &err), rc = 0;
    if (!r && !o.help && misuse(&o))
        r = kl_error_set(&err, KL_EINVALID, "%s", misuse(&o));
    if (r) {
        fprintf(stderr, "kinglet: %s\n", err.msg);
        rc = 2;
    } else if (o.help) {
        printf("USAGE:\n   kinglet migrate --from URL --to URL [flags]\n"
               "   kinglet migrate --online --to URL [flags]\n"
               "   kinglet migrate --unfence [--from URL]\n"
               "   kinglet migrate --to-kine URL\n\nFLAGS:\n");
        kl_flags_help(flags, KL_COUNT(flags));
    } else {
        struct migration m = {.o = &o,
                              .data_dir = o.data_dir ? o.data_dir : kl_default_data_dir(&a),
                              .terminal = isatty(STDERR_FILENO),
                              .began_ms = kl_mono_ms(),
                              .told_ms = kl_mono_ms()};
        const struct kl_store_options tls = {
            .cafile = o.cafile, .certfile = o.certfile, .keyfile = o.keyfile};
        r = o.to_kine   ? kl_kine_give_back(o.to_kine, &tls, &err)
            : o.unfence ? unfence(&o, m.data_dir, &err)
                        : migrate(&m, &err);
        if (r)
            fprintf(stderr, "kinglet: %s\n", err.msg);
        else if (o.unfence)
            printf("the datastore takes writes again\n");
        else if (o.to_kine)
            printf("kine and K3s open it again\n");
        rc = r ? 1 : 0;
    }
    kl_arena_fini(&a);
    return rc;
}
