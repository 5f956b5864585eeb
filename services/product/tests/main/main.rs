//! The product service through its RPCs, on SQLite and on PostgreSQL.

mod shop;

/// Runs each scenario on both engines.
macro_rules! on_both_engines {
    ($($scenario:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario($crate::shop::Shop::on_sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario($crate::shop::Shop::on_postgres().await).await;
            })*
        }
    };
}

mod access;
mod catalogue;
mod events;
mod stock;
