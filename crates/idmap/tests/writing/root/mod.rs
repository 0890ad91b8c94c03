mod negative_group;
mod projid;
mod stand_in;
