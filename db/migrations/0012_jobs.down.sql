SELECT base.actor_remove ('jobs');
