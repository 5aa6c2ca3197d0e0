// SPDX-License-Identifier: Apache-2.0
// What pods of earlier starts left behind when nobody was there to clean up: directories, logs and
// cgroups whose pod neither the API server nor the runtime knows. Looked for once, when both lists
// are complete. Groups without a directory are left alone: kubelets with other data directories may
// have the same cgroup root.
#include "kubelet/cgroup.h"
#include "kubelet/pods_int.h"
#include <dirent.h>
#include <stdlib.h>

struct sweep {
    struct kl_job job;
    struct kl_kubelet *k;
    struct kl_map known; // uids; read by the worker only
};

static void sweep(struct kl_job *job)
{
    struct sweep *s = KL_CONTAINER_OF(job, struct sweep, job);
    const char *const dirs[] = {s->k->conf.pods_dir, s->k->conf.logs_dir};
    for (size_t i = 0; i < KL_COUNT(dirs); i++) {
        DIR *d = opendir(dirs[i]);
        for (struct dirent *e; d && (e = readdir(d));) {
            const char *uid = strrchr(e->d_name, '_'); // NAMESPACE_NAME_UID
            struct kl_path p;
            if (e->d_name[0] == '.' || !kl_path_set(&p, "%s/%s", dirs[i], e->d_name) ||
                kl_map_get(&s->known, kl_str(uid ? uid + 1 : e->d_name)))
                continue;
            // Its group goes first: the directory is what says that the group was ours.
            if (!i && kl_cgroup_remove_pod(s->k->conf.cgroup_root, kl_str(e->d_name), NULL))
                continue;
            if (!kl_fs_unmount_below(p.s, NULL))
                kl_fs_remove_tree(p.s, NULL);
        }
        if (d)
            closedir(d);
    }
}

static void swept(struct kl_job *job)
{
    struct sweep *s = KL_CONTAINER_OF(job, struct sweep, job);
    struct kl_kubelet *k = s->k;
    kl_map_fini(&s->known);
    free(s);
    k->pods->ready = true;
    kl_pods_sync_all(k->pods);
    kl_kubelet_release(k);
}

void kl_pods_sweep_orphans(struct kl_pods *ps)
{
    struct sweep *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    s->k = ps->k;
    kl_map_init(&s->known);
    bool whole = true;
    KL_MAP_EACH (&ps->by_uid, e) {
        whole = whole && !kl_map_set(&s->known, e->key, s, NULL);
    }
    if (!whole)
        abort(); // a pod left out would lose its directories
    s->job.work = sweep;
    s->job.done = swept;
    kl_kubelet_hold(ps->k);
    kl_pool_submit(ps->k->pool, &s->job);
}
