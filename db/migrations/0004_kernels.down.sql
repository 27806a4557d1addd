SELECT base.actor_remove ('kernels');
