// SPDX-License-Identifier: Apache-2.0
// kinglet purge: leaves the machine as it was before the node.
#include "cli/commands.h"
#include "cli/flags.h"
#include "kubelet/kubelet.h"
#include <stdio.h>

struct options {
    const char *data_dir, *bridge_name, *cgroup_root;
    bool help;
};

static const struct kl_flag flags[] = {
    {"data-dir", 'd', "KINGLET_DATA_DIR", KL_FLAG_STRING, offsetof(struct options, data_dir), "DIR",
     NULL, "data", "Data directory of the node"},
    {"bridge-name", 0, NULL, KL_FLAG_STRING, offsetof(struct options, bridge_name), "NAME", NULL,
     "agent/networking", "Interface that pods hang on (kinglet0)"},
    {"cgroup-root", 0, NULL, KL_FLAG_STRING, offsetof(struct options, cgroup_root), "PATH", NULL,
     "agent/node", "Parent of the pods' cgroups"},
    {"help", 'h', NULL, KL_FLAG_BOOL, offsetof(struct options, help), NULL, "false", "help",
     "This text"},
};

int kl_cmd_purge(int argc, char **argv)
{
    struct kl_arena a;
    struct options o = {0};
    struct kl_error err = {0};
    kl_arena_init(&a, 1 << 20);
    if (kl_flags_parse(flags, KL_COUNT(flags), &o, &a, argc, argv, NULL, &err)) {
        fprintf(stderr, "kinglet: %s\n", err.msg);
        return 2;
    }
    if (o.help) {
        kl_flags_help(flags, KL_COUNT(flags));
        return 0;
    }
    struct kl_kubelet_options k = {.data_dir = o.data_dir ? o.data_dir : kl_default_data_dir(&a),
                                   .bridge_name = o.bridge_name,
                                   .cgroup_root = o.cgroup_root};
    int rc = kl_kubelet_purge(&k, &err);
    if (rc)
        fprintf(stderr, "kinglet: %s\n", err.msg);
    kl_arena_fini(&a);
    return rc ? 1 : 0;
}
