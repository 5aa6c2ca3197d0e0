// SPDX-License-Identifier: Apache-2.0
#include "store/sql/driver.h"
#include <dlfcn.h>

int kl_sql_dlopen(const char *soname, const char *package, const struct kl_sql_symbol *symbols,
                  size_t n, struct kl_error *err)
{
    void *lib = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "this kind of datastore needs the library %s: install the package %s "
                            "(%s)",
                            soname, package, dlerror());
    for (size_t i = 0; i < n; i++) {
        void *fn = dlsym(lib, symbols[i].name);
        if (!fn)
            return kl_error_set(err, KL_EUNSUPPORTED,
                                "the library %s is too old, it has no %s: install a newer package "
                                "%s",
                                soname, symbols[i].name, package);
        *symbols[i].fn = fn;
    }
    return 0;
}
