SELECT base.actor_remove ('clusters');
