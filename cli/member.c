// SPDX-License-Identifier: Apache-2.0
// kinglet member list|remove|promote: the servers of a raft:// datastore.
#include "apiserver/pki.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/join.h"
#include "store/raft/members.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
    const char *config, *data_dir, *server, *output, *token;
    bool help;
};
#define AT(field) offsetof(struct options, field)

static const struct kl_flag flags[] = {
    {"config", 'c', "KINGLET_CONFIG_FILE", KL_FLAG_STRING, AT(config), "FILE", NULL, "config",
     "Load flags from a YAML file"},
    {"data-dir", 'd', "KINGLET_DATA_DIR", KL_FLAG_STRING, AT(data_dir), "DIR", NULL, "data",
     "Data directory of a server, for its CA and token"},
    {"server", 's', "KINGLET_URL", KL_FLAG_STRING, AT(server), "URL", "https://127.0.0.1:6443",
     "cluster", "Server to ask"},
    {"token", 't', "KINGLET_TOKEN", KL_FLAG_STRING, AT(token), "TOKEN", NULL, "cluster",
     "Secret of the cluster (that of the data directory)"},
    {"output", 'o', NULL, KL_FLAG_STRING, AT(output), "FORMAT", "table", "output", "table or json"},
    {"help", 'h', NULL, KL_FLAG_BOOL, AT(help), NULL, "false", "help", "This text"},
};

static const struct command {
    const char *name, *method;
    bool with_id;
} commands[] = {
    {"list", "GET", false},
    {"remove", "DELETE", true},
    {"promote", "PUT", true},
};

static const char *role_name(enum kl_raft_role r)
{
    return r == KL_RAFT_VOTER ? "voter" : r == KL_RAFT_STANDBY ? "learner" : "spare";
}

static void print_table(const struct kl_raft_member *m, size_t n)
{
    printf("%-18s%-10s%-10s%-12s%s\n", "ID", "ROLE", "LEADER", "CONNECTED", "ADDRESS");
    for (size_t i = 0; i < n; i++)
        printf("%016llx  %-10s%-10s%-12s%s\n", (unsigned long long)m[i].id, role_name(m[i].role),
               m[i].leader ? "yes" : "", m[i].connected ? "yes" : "no", m[i].address);
}

static void print_json(const struct kl_raft_member *m, size_t n)
{
    printf("[");
    for (size_t i = 0; i < n; i++)
        printf("%s\n  {\"id\": \"%016llx\", \"role\": \"%s\", \"leader\": %s, \"connected\": %s, "
               "\"address\": \"%s\"}",
               i ? "," : "", (unsigned long long)m[i].id, role_name(m[i].role),
               m[i].leader ? "true" : "false", m[i].connected ? "true" : "false", m[i].address);
    printf("\n]\n");
}

static int read_token(const char *data_dir, struct kl_arena *a, const char **ret,
                      struct kl_error *err)
{
    struct kl_str path = kl_arena_printf(a, "%s/server/token", data_dir);
    char text[1024];
    int fd = path.p ? open(path.p, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (n < 0)
        kl_error_errno(err, errno, "%s", path.p ? path.p : "token");
    else
        *ret = kl_arena_dup(a, kl_str_trim((struct kl_str){text, (size_t)n})).p;
    explicit_bzero(text, sizeof text);
    if (fd >= 0)
        close(fd);
    return n < 0 ? err->code : 0;
}

static int run(const struct options *o, const struct command *c, const char *id, struct kl_arena *a,
               struct kl_error *err)
{
    struct kl_raft_member m[KL_RAFT_MEMBERS_MAX];
    struct kl_join j = {.url = o->server, .token = o->token, .data_dir = o->data_dir};
    struct kl_buf b;
    int rc = j.token ? 0 : read_token(o->data_dir, a, &j.token, err);
    if (rc)
        return rc;
    kl_buf_init(&b, 1 << 20);
    struct kl_str target = kl_arena_printf(a, "/v1-kinglet/members%s%s", c->with_id ? "?id=" : "",
                                           c->with_id ? id : "");
    rc = kl_join_call(&j, c->method, target.p, &b, err);
    if (!rc) {
        size_t n = kl_join_parse_members(kl_buf_str(&b), m, KL_RAFT_MEMBERS_MAX);
        if (!strcmp(o->output, "json"))
            print_json(m, n);
        else
            print_table(m, n);
    }
    kl_buf_fini(&b);
    return rc;
}

static void usage(FILE *to)
{
    fprintf(to, "USAGE:\n   kinglet member list|remove ID|promote ID [flags]\n");
}

int kl_cmd_member(int argc, char **argv)
{
    struct options o = {0};
    struct kl_arena a;
    struct kl_error err = {0};
    const struct command *c = NULL;
    for (size_t i = 0; i < KL_COUNT(commands) && argc > 1; i++)
        if (!strcmp(argv[1], commands[i].name))
            c = &commands[i];
    bool help = argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));
    if (!c && !help) {
        usage(stderr);
        return 2;
    }
    int skip = help ? 0 : c->with_id ? 2 : 1;
    if (c && c->with_id &&
        (argc < 3 || strlen(argv[2]) != 16 || strspn(argv[2], "0123456789abcdef") != 16)) {
        fprintf(stderr, "kinglet: %s needs a member's id, 16 digits (kinglet member list)\n",
                c->name);
        return 2;
    }
    kl_arena_init(&a, 1 << 20);
    const char *id = c && c->with_id ? argv[2] : NULL;
    if (kl_flags_parse(flags, KL_COUNT(flags), &o, &a, argc - skip, argv + skip, NULL, &err)) {
        fprintf(stderr, "kinglet: %s\n", err.msg);
        return 2;
    }
    if (o.help) {
        usage(stdout);
        printf("\nFLAGS:\n");
        kl_flags_help(flags, KL_COUNT(flags));
        return 0;
    }
    if (!o.data_dir)
        o.data_dir = kl_default_data_dir(&a);
    int rc = run(&o, c, id, &a, &err);
    if (rc)
        fprintf(stderr, "kinglet: %s\n", err.msg);
    kl_arena_fini(&a);
    return rc ? 1 : 0;
}
