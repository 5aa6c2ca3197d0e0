// SPDX-License-Identifier: Apache-2.0
// kinglet kubectl: the kubectl that is found, with the admin kubeconfig of this cluster.
#include "cli/commands.h"
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *kl_default_data_dir(struct kl_arena *a)
{
    const char *home = getenv("HOME");
    if (geteuid() == 0 || !home)
        return "/var/lib/kinglet";
    return kl_arena_printf(a, "%s/.kinglet", home).p;
}

const char *kl_kubeconfig_path(struct kl_arena *a, const char *given, const char *data_dir)
{
    if (given && *given)
        return given;
    if (geteuid() == 0 && !strcmp(data_dir, "/var/lib/kinglet"))
        return "/etc/kinglet/kinglet.yaml";
    return kl_arena_printf(a, "%s/server/cred/admin.kubeconfig", data_dir).p;
}

int kl_cmd_kubectl(int argc, char **argv)
{
    struct kl_arena a;
    kl_arena_init(&a, 1 << 20);
    const char *data = getenv("KINGLET_DATA_DIR");
    const char *path = getenv("KUBECONFIG");
    char **args = calloc((size_t)argc + 1, sizeof *args);
    if (!path || !*path)
        path = kl_kubeconfig_path(&a, getenv("KINGLET_KUBECONFIG_OUTPUT"),
                                  data && *data ? data : kl_default_data_dir(&a));
    if (!args || setenv("KUBECONFIG", path, 1)) {
        fprintf(stderr, "kinglet: out of memory\n");
        return 1;
    }
    memcpy(args, argv, (size_t)argc * sizeof *args);
    args[0] = (char *)"kubectl";
    execvp("kubectl", args);
    fprintf(stderr, "kinglet: kubectl is not in PATH: %s\n", strerror(errno));
    free(args);
    return 1;
}
