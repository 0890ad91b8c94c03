mod nothing;
mod sweep;
