// SPDX-License-Identifier: Apache-2.0
// kinglet snapshot: save, list, restore, prune. Through the running server where there is one.
#include "cli/admin.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/machine.h"
#include "cli/store_cmd.h"
#include "base/log.h"
#include "object/json.h"
#include "store/transfer/snapshot.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// Clients have seen no revision above the snapshot's by more than that.
enum { RESTORE_BUMP = 1000000 };

struct options {
    const char *data_dir, *datastore, *to, *name, *dir, *output, *cafile, *certfile, *keyfile;
    int retention;
    bool force, help;
};

#define AT(field) offsetof(struct options, field)

static const struct kl_flag flags[] = {
    {"name", 0, "KINGLET_SNAPSHOT_NAME", KL_FLAG_STRING, AT(name), "NAME", "on-demand", "snapshot",
     "Beginning of the file's name; what prune goes by"},
    {"dir", 0, "KINGLET_SNAPSHOT_DIR", KL_FLAG_STRING, AT(dir), "DIR", NULL, "snapshot",
     "Where snapshots are (server/db/snapshots in the data directory)"},
    {"etcd-snapshot-dir", 0, NULL, KL_FLAG_STRING, AT(dir), "DIR", NULL, "snapshot",
     "The same, as K3s names it"},
    {"snapshot-retention", 0, "KINGLET_SNAPSHOT_RETENTION", KL_FLAG_INT, AT(retention), "N", "5",
     "snapshot", "prune: how many stay"},
    {"to", 0, NULL, KL_FLAG_STRING, AT(to), "URL", NULL, "snapshot",
     "restore: datastore to fill (--datastore-endpoint)"},
    {"force", 0, NULL, KL_FLAG_BOOL, AT(force), NULL, "false", "snapshot",
     "restore: replace what the datastore holds"},
    {"output", 'o', NULL, KL_FLAG_STRING, AT(output), "FORMAT", "text", "snapshot",
     "list: text or json"},
    {"data-dir", 'd', "KINGLET_DATA_DIR", KL_FLAG_STRING, AT(data_dir), "DIR", NULL, "data",
     "Data directory of the server"},
    {"datastore-endpoint", 0, "KINGLET_DATASTORE_ENDPOINT", KL_FLAG_STRING, AT(datastore), "URL",
     NULL, "db", "Datastore, of save when no server runs (sqlite in the data directory)"},
    {"datastore-cafile", 0, "KINGLET_DATASTORE_CAFILE", KL_FLAG_STRING, AT(cafile), "FILE", NULL,
     "db", "CA of the database"},
    {"datastore-certfile", 0, "KINGLET_DATASTORE_CERTFILE", KL_FLAG_STRING, AT(certfile), "FILE",
     NULL, "db", "Client certificate for it"},
    {"datastore-keyfile", 0, "KINGLET_DATASTORE_KEYFILE", KL_FLAG_STRING, AT(keyfile), "FILE", NULL,
     "db", "Its key"},
    {"help", 'h', NULL, KL_FLAG_BOOL, AT(help), NULL, "false", "help", "This text"},
};

struct request {
    struct options o;
    struct kl_arena arena;
    const char *data_dir, *dir, *file;
};

// ---- save ----

static const char *absolute(struct kl_arena *a, const char *path)
{
    char cwd[4096];
    if (path[0] == '/' || !getcwd(cwd, sizeof(cwd)))
        return path;
    return kl_arena_printf(a, "%s/%s", cwd, path).p;
}

static int save_served(struct request *q, struct kl_error *err)
{
    struct kl_buf target, answer;
    char name[KL_SNAPSHOT_NAME_MAX + 1] = "", size[32];
    int64_t rev = 0, bytes = 0;
    kl_buf_init(&target, 4500);
    kl_buf_init(&answer, 1 << 20);
    kl_buf_puts(&target, KL_STR("/v1/snapshot?name="));
    kl_admin_escape(&target, q->o.name);
    if (q->o.dir) {
        kl_buf_puts(&target, KL_STR("&dir="));
        kl_admin_escape(&target, absolute(&q->arena, q->o.dir));
    }
    kl_buf_putc(&target, 0);
    int r = target.err ? kl_error_set(err, KL_EINVALID, "--dir is too long")
                       : kl_admin_call(q->data_dir, "POST", target.p, &answer, err);
    if (!r) {
        kl_admin_text(&answer, "name", name, sizeof(name));
        kl_admin_number(&answer, "rev", &rev);
        kl_admin_number(&answer, "bytes", &bytes);
        printf("saved %s (revision %lld, %s)\n", name, (long long)rev, kl_size_text(bytes, size));
    }
    kl_buf_fini(&target);
    kl_buf_fini(&answer);
    return r;
}

static int save(struct request *q, struct kl_error *err)
{
    struct kl_store *s;
    struct kl_snapshot_info info;
    char node[64], size[32];
    if (kl_admin_is_served(q->data_dir) && !q->o.datastore)
        return save_served(q, err);
    int r = kl_machine_node_name(NULL, node, sizeof(node), err);
    if (!r)
        r = kl_store_cmd_open(kl_store_cmd_url(&q->arena, q->o.datastore, q->data_dir), NULL, &s,
                              err);
    if (r)
        return r;
    r = kl_snapshot_save(s, q->dir, q->o.name, node, &info, err);
    kl_store_stop(s);
    if (!r)
        printf("saved %s (revision %lld, %s)\n", info.name, (long long)info.rev,
               kl_size_text(info.bytes, size));
    return r;
}

// ---- list, prune ----

static void list_json(const struct kl_snapshot_info *all, size_t n)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 << 20);
    kl_buf_putc(&b, '[');
    for (size_t i = 0; i < n; i++) {
        kl_buf_puts(&b, i ? KL_STR(",{\"name\":") : KL_STR("{\"name\":"));
        kl_json_write_string(&b, kl_str(all[i].name));
        kl_buf_printf(&b,
                      ",\"revision\":%lld,\"keys\":%lld,\"bytes\":%lld,\"createdMs\":%lld,"
                      "\"backend\":\"%s\",\"damaged\":%s}",
                      (long long)all[i].rev, (long long)all[i].keys, (long long)all[i].bytes,
                      (long long)all[i].wall_ms, all[i].backend, all[i].damaged ? "true" : "false");
    }
    kl_buf_puts(&b, KL_STR("]\n"));
    printf("%.*s", (int)b.n, b.p);
    kl_buf_fini(&b);
}

static int list(struct request *q, struct kl_error *err)
{
    struct kl_snapshot_info *all;
    size_t n;
    int r = kl_snapshot_list(q->dir, &all, &n, err);
    if (r)
        return r;
    if (!strcmp(q->o.output, "json")) {
        list_json(all, n);
        free(all);
        return 0;
    }
    printf("%-50s %-12s %-12s %s\n", "NAME", "REVISION", "SIZE", "CREATED");
    for (size_t i = 0; i < n; i++) {
        char size[32], when[32] = "";
        time_t t = (time_t)(all[i].wall_ms / 1000);
        struct tm tm;
        strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
        if (all[i].damaged)
            printf("%-50s damaged\n", all[i].name);
        else
            printf("%-50s %-12lld %-12s %s\n", all[i].name, (long long)all[i].rev,
                   kl_size_text(all[i].bytes, size), when);
    }
    free(all);
    return 0;
}

static int prune(struct request *q, struct kl_error *err)
{
    int gone;
    if (q->o.retention < 0)
        return kl_error_set(err, KL_EINVALID, "--snapshot-retention is 0 or more");
    int r = kl_snapshot_prune(q->dir, q->o.name, q->o.retention, &gone, err);
    if (!r)
        printf("removed %d\n", gone);
    return r;
}

// ---- restore ----

static int identify_file(void *arg, uint64_t *ret_id, kl_rev *ret_rev, struct kl_error *err)
{
    struct kl_snapshot_info info;
    int r = kl_snapshot_peek(((struct request *)arg)->file, &info, err);
    if (r)
        return r;
    // A restore that was cut goes on with the same file only.
    *ret_id = info.cluster_id ^ (uint64_t)info.wall_ms * 0x9e3779b97f4a7c15u ^ (uint64_t)info.rev;
    *ret_rev = info.rev;
    return 0;
}

// A file has no log: what a cut restore already has is passed over.
struct skipping {
    struct kl_source source, *file;
    kl_rev through;
};

static int next_after(struct kl_source *s, struct kl_record *ret, struct kl_error *err)
{
    struct skipping *k = KL_CONTAINER_OF(s, struct skipping, source);
    int r;
    do
        r = k->file->next(k->file, ret, err);
    while (!r && ret->kind == KL_RECORD_ROW && ret->row.id <= k->through);
    return r;
}

static void close_skipping(struct kl_source *s)
{
    struct skipping *k = KL_CONTAINER_OF(s, struct skipping, source);
    k->file->close(k->file);
    free(k);
}

static int open_file(void *arg, const struct kl_source_from *from, struct kl_source **ret_s,
                     struct kl_error *err)
{
    struct skipping *k = calloc(1, sizeof(*k));
    if (!k)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    k->source = (struct kl_source){next_after, close_skipping};
    k->through = from->through;
    int r = kl_snapshot_read(((struct request *)arg)->file, &k->file, err);
    if (r)
        free(k);
    else
        *ret_s = &k->source;
    return r;
}

static int restore(struct request *q, struct kl_error *err)
{
    const struct kl_store_options store = {.read_only = true,
                                           .cafile = q->o.cafile,
                                           .certfile = q->o.certfile,
                                           .keyfile = q->o.keyfile};
    const struct kl_store_copy_origin from = {
        .arg = q, .identify = identify_file, .open = open_file};
    const char *url = q->o.to ? q->o.to : q->o.datastore;
    struct kl_store_copy_options c = {.to = kl_store_cmd_url(&q->arena, url, q->data_dir),
                                      .store = &store,
                                      .force = q->o.force,
                                      .bump = RESTORE_BUMP};
    struct kl_store_copy_result result;
    char to[512], path[4096];
    if (!q->file)
        return kl_error_set(err, KL_EINVALID, "restore: which snapshot? a file, or its name");
    snprintf(path, sizeof(path), "%s/%s", q->dir, q->file);
    if (!strchr(q->file, '/') && access(q->file, F_OK) && !access(path, F_OK))
        q->file = path;
    int r = kl_store_copy(&from, &c, &result, NULL, NULL, err);
    if (!r)
        printf("restored %lld keys to %s; revision %lld was %lld in the snapshot, clients list "
               "anew\n",
               (long long)result.rows, kl_endpoint_redact(c.to, to, sizeof(to)),
               (long long)result.rev, (long long)result.from_rev);
    return r;
}

// ---- the command ----

static const struct verb {
    const char *name;
    int (*run)(struct request *q, struct kl_error *err);
    const char *help;
} verbs[] = {
    {"save", save, "Take a snapshot of the datastore"},
    {"list", list, "Tell which snapshots there are"},
    {"ls", list, NULL},
    {"restore", restore,
     "Fill a datastore from a snapshot: kinglet snapshot restore NAME --to URL"},
    {"prune", prune, "Remove the oldest snapshots of a name"},
};

static int usage(int rc)
{
    FILE *f = rc ? stderr : stdout;
    fprintf(f, "USAGE:\n   kinglet snapshot COMMAND [flags]\n\nCOMMANDS:\n");
    for (size_t i = 0; i < KL_COUNT(verbs); i++) {
        if (verbs[i].help)
            fprintf(f, "   %-10s %s\n", verbs[i].name, verbs[i].help);
    }
    if (!rc) {
        printf("\nFLAGS:\n");
        kl_flags_help(flags, KL_COUNT(flags));
    }
    return rc;
}

// The one word that is no flag may stand before or after them.
static const char *take_word(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        bool value = i > 1 && argv[i - 1][0] == '-' && !strchr(argv[i - 1], '=') &&
                     strcmp(argv[i - 1], "--force") != 0;
        if (argv[i][0] == '-' || value)
            continue;
        const char *word = argv[i];
        memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i) * sizeof(*argv));
        --*argc;
        return word;
    }
    return NULL;
}

int kl_cmd_snapshot(int argc, char **argv)
{
    static struct request q;
    struct kl_error err = {0};
    const struct verb *verb = NULL;
    for (size_t i = 0; argc > 1 && i < KL_COUNT(verbs); i++) {
        if (!strcmp(argv[1], verbs[i].name))
            verb = &verbs[i];
    }
    if (!verb)
        return usage(argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) ? 0 : 2);
    kl_arena_init(&q.arena, 1 << 20);
    kl_log_setup(KL_LOG_WARN, false);
    argc--;
    argv++;
    q.file = take_word(&argc, argv);
    if (kl_flags_parse(flags, KL_COUNT(flags), &q.o, &q.arena, argc, argv, NULL, &err) ||
        (q.file && verb->run != restore)) {
        fprintf(stderr, "kinglet: %s%s\n",
                err.code ? err.msg : "not understood: ", err.code ? "" : q.file);
        return 2;
    }
    if (q.o.help)
        return usage(0);
    q.data_dir = q.o.data_dir ? q.o.data_dir : kl_default_data_dir(&q.arena);
    q.dir = kl_snapshot_dir(&q.arena, q.o.dir, q.data_dir);
    int r = verb->run(&q, &err);
    if (r)
        fprintf(stderr, "kinglet: %s\n", err.msg);
    kl_arena_fini(&q.arena);
    return r ? 1 : 0;
}
