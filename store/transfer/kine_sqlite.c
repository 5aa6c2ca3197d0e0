// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/kine.h"
int kl_kine_give_back(const char *url, struct kl_error *err)
{
    return kl_error_set(err, KL_EUNSUPPORTED, "not yet");
}
