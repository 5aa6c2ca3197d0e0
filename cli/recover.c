// SPDX-License-Identifier: Apache-2.0
// kinglet recover: one survivor of a raft:// datastore goes on alone.
#include "cli/commands.h"
#include "cli/flags.h"
#include "store/raft/members.h"
#include <stdio.h>
#include <string.h>

struct options {
    const char *data_dir, *datastore;
    bool yes, help;
};
#define AT(field) offsetof(struct options, field)

static const struct kl_flag flags[] = {
    {"data-dir", 'd', "KINGLET_DATA_DIR", KL_FLAG_STRING, AT(data_dir), "DIR", NULL, "data",
     "Data directory of the server that survived"},
    {"datastore-endpoint", 0, "KINGLET_DATASTORE_ENDPOINT", KL_FLAG_STRING, AT(datastore), "URL",
     NULL, "db", "raft://DIR (server/db/raft in the data directory)"},
    {"yes", 'y', NULL, KL_FLAG_BOOL, AT(yes), NULL, "false", "recover",
     "The other servers are gone for ever"},
    {"help", 'h', NULL, KL_FLAG_BOOL, AT(help), NULL, "false", "help", "This text"},
};

int kl_recover_raft(const char *url)
{
    struct kl_error err = {0};
    const char *rest = url && !strncmp(url, "raft://", 7) ? url + 7 : NULL;
    char dir[4096];
    if (!rest ||
        snprintf(dir, sizeof dir, "%.*s", (int)strcspn(rest, "?"), rest) >= (int)sizeof dir) {
        fprintf(stderr, "kinglet: only a raft://DIR datastore can be recovered\n");
        return 2;
    }
    if (kl_raft_recover(dir, &err)) {
        fprintf(stderr, "kinglet: %s\n", err.msg);
        return 1;
    }
    printf(
        "%s is a cluster of one server now, 1,000,000 revisions further on, so that clients list "
        "anew: start it, and let the others join with empty data directories\n",
        dir);
    return 0;
}

int kl_cmd_recover(int argc, char **argv)
{
    struct options o = {0};
    struct kl_arena a;
    struct kl_error err = {0};
    kl_arena_init(&a, 1 << 20);
    if (kl_flags_parse(flags, KL_COUNT(flags), &o, &a, argc, argv, NULL, &err)) {
        fprintf(stderr, "kinglet: %s\n", err.msg);
        return 2;
    }
    if (o.help) {
        printf("USAGE:\n   kinglet recover [flags]\n\nMakes this server the only one of its "
               "cluster, when a majority is lost. What the others had acknowledged and\nthis one "
               "does not have is lost. The server must not run.\n\nFLAGS:\n");
        kl_flags_help(flags, KL_COUNT(flags));
        return 0;
    }
    if (!o.yes) {
        fprintf(stderr, "kinglet: the other servers of the cluster must never run again with what "
                        "they have; say --yes when that is so\n");
        return 2;
    }
    if (!o.data_dir)
        o.data_dir = kl_default_data_dir(&a);
    if (!o.datastore)
        o.datastore = kl_arena_printf(&a, "raft://%s/server/db/raft", o.data_dir).p;
    int rc = kl_recover_raft(o.datastore);
    kl_arena_fini(&a);
    return rc;
}
