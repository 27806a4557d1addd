SELECT base.actor_remove ('identity');
