// SPDX-License-Identifier: GPL-2.0-or-later
#include "hook/redirect_priv.h"

int rd_compile_policies(const struct config *c, const struct rd_groups *g, struct rd_compiled **ret, struct err *err)
{
	*ret = NULL;
	return 0;
}
