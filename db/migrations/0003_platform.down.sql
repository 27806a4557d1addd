SELECT base.actor_remove ('platform');
